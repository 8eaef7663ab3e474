"""How far long work is: a bar on a terminal, now and then a plain line elsewhere; always on standard error."""

from __future__ import annotations

import sys

from tqdm import tqdm

from medddist.base import processes


class Progress:
    """Called with what is being done, how much of it is done, and how much there is."""

    def __init__(self):
        self.bar: tqdm | None = None

    def __call__(self, what: str, done: int, total: int) -> None:
        if processes.rank():
            return  # of several processes, the first tells
        if self.bar is None or self.bar.total != total or done < self.bar.n:
            self.close()
            quiet_seconds = 0.1 if sys.stderr.isatty() else 10.0
            self.bar = tqdm(
                total=total,
                file=sys.stderr,
                mininterval=quiet_seconds,
                ascii=not sys.stderr.isatty(),
                leave=True,
            )
        self.bar.set_description(what, refresh=False)
        self.bar.update(done - self.bar.n)
        if done == total:
            self.close()

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()
        self.bar = None
