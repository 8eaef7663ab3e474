"""Dataset distillation for medical dataset sharing: a study that can be re-run, and the small library under it."""

import os

# Threads that wait sleep: on a machine that is shared, spinning ones make a step several times slower. OpenMP reads this when
# torch loads it, so it stands before every other import; what the user set stays.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"
