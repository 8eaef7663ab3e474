"""The one exception that means: what was given cannot be used, and here is what to do."""


class InputError(ValueError):
    """A mistake of the caller or a refused input; the command line ends with exit code 2.

    The message is one line that names the file or setting, says what is wrong with it, and what to do.
    """


class NotApplicable(InputError):
    """A refused input that has nothing wrong with it: this one question cannot be asked of these data. A book leaves it out and goes on."""


class NotWritable(InputError):
    """A file or folder that the file system refuses to write: `path`, and the system's `reason` (an error number)."""

    path = None
    reason = None


def shown(name) -> str:
    """A file's name fit for a message of one line: characters that do not print are escaped."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(name))
