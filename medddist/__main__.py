"""`python -m medddist` is the command `medddist`."""

from medddist.cli import main

main()
