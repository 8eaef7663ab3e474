"""Random numbers by name: the same parts, the same stream, wherever and whenever it is asked for.

Iteration 17 of a distillation draws from `generator(seed, "iteration", 17)`. Nothing but the name
decides what comes, so a run that was killed and resumed draws what an undisturbed one does, and no
generator's state is ever stored.
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch


def seed_of(*parts: int | str) -> int:
    """Return a 63-bit seed for the parts of a name."""
    name = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little") >> 1


def generator(*parts: int | str) -> torch.Generator:
    """Return a torch generator on the CPU; draws are moved to the device, the same on all."""
    return torch.Generator().manual_seed(seed_of(*parts))


def numpy_generator(*parts: int | str) -> np.random.Generator:
    """Return a numpy generator for the parts of a name."""
    return np.random.Generator(np.random.PCG64(seed_of(*parts)))
