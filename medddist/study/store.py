"""Results on disk: each is computed once, under the hash of all that it depends on.

A result's folder is named by that hash, by torch's version and by the kind of device, since the
last digits of a result depend on these. What it depends on is written beside it, and so are the
seconds that it took. A step that was interrupted leaves no result; its seconds are added up.
"""

from __future__ import annotations

import contextlib
import logging
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from medddist.base import processes
from medddist.base.compute import where_computed
from medddist.base.errors import InputError
from medddist.base.files import digest, private_folder, read_json, write_bytes, write_json
from medddist.base.tensors import load_tensors, save_tensors

LOG = logging.getLogger("medddist")
RESULT = "result.safetensors"
DEPENDS_ON = "depends_on.json"

# Raised by hand when what a step computes changes, so that no result of older code is taken for one
# of newer code. A test reminds of it when the source of a step's modules has changed.
VERSIONS = {"teacher": 3, "labels": 1, "distill": 7, "scores": 4}
VERSIONS |= {"public": 5, "release": 5}
VERSIONS |= {"pretrain": 2, "compare": 3, "audit": 2, "hospitals": 3}


class Store:
    """The cached results of one study.

    Args:
        root: the folder of all results; it is made for its owner alone.
        device: where results are computed.
        shared: what every result depends on, such as the data's fingerprint.
        notice: text of a file KEEP-LOCAL.txt in `root`; empty for no such file.
    """

    def __init__(
        self, root: Path, device: torch.device, shared: Mapping[str, Any], notice: str = ""
    ):
        self.root, self.shared, self.notice = root, dict(shared), notice
        self.computed_by = where_computed(device)

    def path(self, step: str, name: str = RESULT, **depends_on: Any) -> Path:
        """Return where a result is cached, whether or not it exists; nothing is written."""
        hashed = digest(self._depends_on(step, depends_on))
        place = f"{hashed}-{self.computed_by['device']}-torch-{self.computed_by['torch']}"
        return self.root / step / place / name

    def _depends_on(self, step: str, depends_on: Mapping[str, Any]) -> dict[str, Any]:
        return {"version": VERSIONS[step], **self.shared, **depends_on}

    def tensors(
        self, step: str, compute: Callable[[], tuple[dict[str, Tensor], dict]], **depends_on: Any
    ) -> tuple[dict[str, Tensor], dict]:
        """Return tensors and JSON values of a result; `compute` is called where it is missing."""
        path = self.path(step, **depends_on)
        if not path.exists():
            with self.computing(path, step, **depends_on):
                save_tensors(path, *compute())
        return load_tensors(path)

    def values(self, step: str, compute: Callable[[], dict], **depends_on: Any) -> dict:
        """Return a result of JSON values; `compute` is called where it is missing."""
        path = self.path(step, "result.json", **depends_on)
        if not path.exists():
            with self.computing(path, step, **depends_on):
                write_json(path, compute())
        return read_json(path)

    @contextlib.contextmanager
    def computing(self, path: Path, step: str, **depends_on: Any) -> Iterator[None]:
        """Prepare a result's folder, and note the seconds spent here once the result exists.

        Of several processes that compute one result together, the first one's seconds count.
        """
        if path.exists() or (path.name == RESULT and processes.rank()):
            yield
            return
        self.mark()
        if not (path.parent / DEPENDS_ON).exists():
            self._report_results_from_elsewhere(step, path)
            everything = self._depends_on(step, depends_on) | self.computed_by
            write_json(path.parent / DEPENDS_ON, everything)
        unfinished = path.with_suffix(".unfinished_seconds.json")
        before = read_json(unfinished) if unfinished.exists() else 0.0
        began = time.monotonic() - before
        total = lambda: round(time.monotonic() - began, 2)
        try:
            yield
        except BaseException:
            with contextlib.suppress(InputError):  # a full disk may be the reason
                write_json(unfinished, total())
            raise
        write_json(_note(path), total())
        unfinished.unlink(missing_ok=True)

    def mark(self) -> None:
        """Make the folder of results, and say in it that nothing there may be sent."""
        private_folder(self.root)
        marker = self.root / "KEEP-LOCAL.txt"
        if self.notice and not marker.exists():
            write_bytes(marker, (textwrap.fill(f"{self.notice}.", 90) + "\n").encode())

    @contextlib.contextmanager
    def marked(self) -> Iterator[None]:
        """Mark the folder of results while data are read, before their fingerprint is known.

        Where they are refused, no empty folder is left that was not there before.
        """
        is_new = not self.root.exists()
        self.mark()
        try:
            yield
        except InputError:
            if is_new:
                with contextlib.suppress(OSError):  # it is not empty
                    self.root.rmdir()
            raise

    def _report_results_from_elsewhere(self, step: str, path: Path) -> None:
        """Log where a step is computed again only because torch or the device is another."""
        if processes.rank():
            return
        hashed = path.parent.name.partition("-")[0]
        for other in sorted(path.parent.parent.glob(f"{hashed}-*")):
            if other != path.parent and _has_result(other):
                place = "torch {torch} on {device}".format_map
                theirs, here = place(read_json(other / DEPENDS_ON)), place(self.computed_by)
                cached = f"the cached result is of {theirs}, and here is {here}"
                LOG.warning(f"{step}: is computed again: {cached}")
                return


def seconds_of(path: Path) -> float:
    """Return the seconds that a result took to compute; 0.0 where there is no result."""
    return read_json(_note(path)) if path.exists() and _note(path).exists() else 0.0


def _note(path: Path) -> Path:
    return path.with_suffix(".seconds.json")


def _has_result(folder: Path) -> bool:
    """Whether a folder holds more than what it depends on and what was interrupted."""
    names = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    return any("unfinished" not in name for name in names - {DEPENDS_ON})
