"""Exceptions that mean: this input cannot be used, and here is what to do about it."""

from __future__ import annotations

import errno
from pathlib import Path

READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)
FULL = (errno.ENOSPC, errno.EDQUOT)


class InputError(ValueError):
    """A caller's mistake or a refused input; the command line exits with code 2.

    Its text is one line, `subject: reason; remedy`.

    Args:
        subject: the file or setting that cannot be used; alone, the whole text.
        reason: what is wrong with it.
        remedy: what to do; may be empty.
    """

    def __init__(self, subject: object, reason: str = "", remedy: str = ""):
        super().__init__(str(subject), reason, remedy)
        self.subject, self.reason, self.remedy = self.args

    def __str__(self) -> str:
        """The line that a user reads."""
        text = f"{self.subject}: {self.reason}" if self.reason else self.subject
        return f"{text}; {self.remedy}" if self.remedy else text

    def within(self, section: str) -> InputError:
        """Return the same error about a setting of `section`: `momentum` becomes
        `distill.momentum`.
        """
        return type(self)(f"{section}.{self.subject}", self.reason, self.remedy)


class NotApplicable(InputError):
    """These data cannot answer a question, though they are correct; a book skips it."""


class NotWritable(InputError):
    """A file or folder that the file system refuses to write."""

    def __init__(self, path: Path | str, problem: OSError, choice: str = "folder"):
        reason = f"cannot be written ({problem.strerror or problem})"
        InputError.__init__(self, shown(path), reason, remedy(problem.errno, choice))
        self.path, self.problem = Path(path), problem

    def __reduce__(self):
        """Survive the way back from a worker process."""
        return type(self), (self.path, self.problem)


def remedy(number: int | None, choice: str) -> str:
    """Name what to do about error `number` of the file system; `choice` is what the user may
    change.
    """
    if number in READ_ONLY:
        return f"choose another {choice} or make it writable"
    free = "free some space there, or " if number in FULL else ""
    return f"{free}choose another {choice}"


def require(condition: object, subject: object, reason: str, remedy: str = "") -> None:
    """Refuse an input unless a condition holds.

    Raises:
        InputError: it does not hold.
    """
    if not condition:
        raise InputError(subject, reason, remedy)


def shown(name: object) -> str:
    """Return a name fit for a message of one line: characters that do not print are escaped."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(name))
