"""How far long work is: one callable everywhere, and the bar that the command line shows."""

from __future__ import annotations

import sys
from collections.abc import Callable

from tqdm import tqdm

from medddist.base import processes

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""


def silent(what: str, done: int, total: int) -> None:
    """Report nothing: the default of every `progress` argument."""


class Bar:
    """A bar on a terminal, an occasional plain line elsewhere; always on standard error."""

    def __init__(self):
        self.bar: tqdm | None = None

    def __call__(self, what: str, done: int, total: int) -> None:
        """Show that `done` of `total` are done."""
        if processes.rank():
            return  # of several processes, the first reports
        if self.bar is None or self.bar.total != total or done < self.bar.n:
            self.close()
            terminal = sys.stderr.isatty()
            seconds = 0.1 if terminal else 10.0
            self.bar = tqdm(total=total, file=sys.stderr, mininterval=seconds, ascii=not terminal)
        self.bar.set_description(what, refresh=False)
        self.bar.update(done - self.bar.n)
        if done == total:
            self.close()

    def close(self) -> None:
        """Leave the bar as it stands; the next call starts another."""
        if self.bar is not None:
            self.bar.close()
        self.bar = None

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *problem) -> None:
        self.close()
