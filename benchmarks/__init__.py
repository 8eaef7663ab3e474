"""Speed, memory and worth of the library, one module per question.

Run from the repository's top folder, and not installed with the library:

    python -m benchmarks QUESTION --json --save results

for gradient, real-loss, teachers, paper, growth or worth.

Every row is {what, setting, ours, reference, ratio, ratio_low, ratio_high}. Ours and the reference
are measured in the same run: on a shared machine, times can only be compared.
"""

import medddist  # noqa: F401  before torch: it sets how OpenMP's threads wait
