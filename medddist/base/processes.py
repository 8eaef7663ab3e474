"""Several processes at work on one study, as torchrun starts them: who does what, and what they
share.

They find each other's results as files, so they need one file system; what is exchanged besides
goes over gloo. A process that was started without torchrun is the first and only one, and none of
this does anything.
"""

from __future__ import annotations

import datetime
import functools
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:  # torch takes seconds to import, and one process alone needs none of it
    from torch import Tensor

T = TypeVar("T")
PATIENCE = datetime.timedelta(hours=12)  # a candidate may train long while the others wait for it


def rank() -> int:
    return int(os.environ.get("RANK", "0"))


def count() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


def mine(number: int) -> range:
    """Which of 0, ..., number - 1 are this process's share."""
    return range(rank(), number, count())


def wait() -> None:
    """Until every process is here."""
    if count() > 1:
        _joined().barrier()


def summed(tensors: list[Tensor]) -> list[Tensor]:
    """Each tensor's sum over all processes, on its own device."""
    if count() == 1:
        return tensors
    import torch

    flat = torch.cat([tensor.detach().cpu().flatten() for tensor in tensors])
    _joined().all_reduce(flat)
    parts = flat.split([tensor.numel() for tensor in tensors])
    return [part.view(tensor.shape).to(tensor) for part, tensor in zip(parts, tensors)]


def from_the_first(make: Callable[[], T]) -> T:
    """What `make` returns in the first process, which alone calls it."""
    if count() == 1:
        return make()
    made = [make() if rank() == 0 else None]
    _joined().broadcast_object_list(made, src=0)
    return made[0]


@functools.cache
def _joined():
    from torch import distributed

    if not distributed.is_initialized():
        distributed.init_process_group("gloo", timeout=PATIENCE)
    return distributed


def leave() -> None:
    """At the end of a process: without it torch warns."""
    if _joined.cache_info().currsize:
        _joined().destroy_process_group()
        _joined.cache_clear()
