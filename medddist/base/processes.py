"""Several processes that work on one study, as torchrun starts them.

They find each other's results as files, so they need one file system; tensors are exchanged over
gloo. A process that was started without torchrun is the first and only one.
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
    """Return this process's number, from 0."""
    return int(os.environ.get("RANK", "0"))


def count() -> int:
    """Return the number of processes."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def mine(number: int) -> range:
    """Return this process's share of 0, ..., number - 1."""
    return range(rank(), number, count())


def wait() -> None:
    """Wait until every process calls this."""
    if count() > 1:
        _joined().barrier()


def summed(tensors: list[Tensor]) -> list[Tensor]:
    """Sum each tensor over all processes, on its own device."""
    if count() == 1:
        return tensors
    import torch  # seconds, which one process alone need not wait for

    flat = torch.cat([tensor.detach().cpu().flatten() for tensor in tensors])
    _joined().all_reduce(flat)
    parts = flat.split([tensor.numel() for tensor in tensors])
    return [part.view(tensor.shape).to(tensor) for part, tensor in zip(parts, tensors)]


def from_the_first(make: Callable[[], T]) -> T:
    """Return what `make` returns in the first process, which alone calls it."""
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
    """Leave the group at the end of a process; otherwise torch warns."""
    if _joined.cache_info().currsize:
        _joined().destroy_process_group()
        _joined.cache_clear()
