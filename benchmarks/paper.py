"""What does one exact iteration of the paper's shape take?"""

from __future__ import annotations

from dataclasses import asdict

import torch

from benchmarks.measuring import Report, peak, row
from benchmarks.problems import CPU, PAPER
from medddist.method.matching import matching_gradient


def measure(report: Report | None = None, device: torch.device = CPU) -> list[dict]:
    """Measure peak memory and seconds of one iteration on all 80 images, without a reference."""
    measured, setting = peak(matching_gradient, PAPER, device), asdict(PAPER)
    where = "the process" if device.type == "cpu" else "torch on the GPU"
    return [
        row(f"peak MiB of {where}, in all", setting, measured.whole_mib),
        row(f"peak MiB of {where}, above rest", setting, measured.above_rest_mib),
        row("seconds per iteration", setting, measured.seconds),
    ]
