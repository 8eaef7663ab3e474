"""How far long work is: one callable everywhere, and the bar that the command line shows."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable

from tqdm import tqdm

from medddist.base import processes

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""

COMPILING = "compiling, once; later runs start at once"

SPEED_SECONDS = 1.0  # a bar that is younger shows no speed


def silent(what: str, done: int, total: int) -> None:
    """Report nothing: the default of every `progress` argument."""


class _Tqdm(tqdm):
    """A bar that tells no speed before there was time to see one."""

    @property
    def format_dict(self) -> dict:
        about = super().format_dict
        unseen = about["elapsed"] < SPEED_SECONDS
        return about | ({"rate": None, "initial": about["n"]} if unseen else {})


class Bar:
    """A bar on a terminal, an occasional plain line elsewhere; always on standard error.

    Speed and time left count the work after a bar's first step alone: not what an earlier run did,
    nor the start, in which kernels are compiled. As a context, it says when that happens.
    """

    def __init__(self):
        self.bar: _Tqdm | None = None
        self.context = contextlib.ExitStack()

    def __call__(self, what: str, done: int, total: int) -> None:
        """Show that `done` of `total` are done."""
        if processes.rank():
            return  # of several processes, the first reports
        if self.bar is None or self.bar.total != total or done < self.bar.n:
            self.close()
            terminal = sys.stderr.isatty()
            shown = {"file": sys.stderr, "mininterval": 0.1 if terminal else 10.0}
            self.bar = _Tqdm(total=total, initial=done, desc=what, ascii=not terminal, **shown)
            self.first = done == 0
        self.bar.set_description(what, refresh=False)
        if self.first and done:
            self._count_from(done)
        self.bar.update(done - self.bar.n)
        if done == total:
            self.close()

    def _count_from(self, done: int) -> None:
        """Take the work so far for given: speed is that of what follows."""
        self.first = False
        self.bar.n = self.bar.initial = self.bar.last_print_n = done
        self.bar.last_print_t = time.time()
        self.bar.refresh()

    def close(self) -> None:
        """Leave the bar as it stands; the next call starts another."""
        if self.bar is not None:
            self.bar.close()
        self.bar = None

    def __enter__(self) -> Bar:
        if not processes.rank():
            self.context.enter_context(_compilation_reported())
        return self

    def __exit__(self, *problem) -> None:
        self.context.close()
        self.close()


@contextlib.contextmanager
def _compilation_reported():
    """Print a line when the first kernel is compiled, if any is: numba caches them on disk."""
    from numba.core import event  # not above: --help need not wait for it

    class Once(event.Listener):
        said = False

        def on_start(self, started: event.Event) -> None:
            if not self.said:
                self.said = True
                tqdm.write(COMPILING, file=sys.stderr)

        def on_end(self, ended: event.Event) -> None:
            """Say nothing more."""

    with event.install_listener("numba:compile", Once()):
        yield
