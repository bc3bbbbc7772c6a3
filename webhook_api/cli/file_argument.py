"""The argument FILE of the commands that read a file, or stdin if it is `-`."""

import errno
import sys
from pathlib import Path


def check_input(file: str | Path) -> None:
    """Check that stdin is open, if FILE is `-`.

    Raises:
        OSError: it is closed.
    """
    if str(file) == "-" and sys.stdin is None:
        raise OSError(errno.EBADF, "is closed", "stdin")


def size_of(file: str) -> int | None:
    """Return the size of FILE in bytes; None for stdin and pipes."""
    return (Path(file).stat().st_size or None) if file != "-" else None
