"""Free space on a disk, and whether a copy of the database fits."""

import errno
import shutil
from pathlib import Path

_SIZES = 1.1  # to ask for: checking the copy needs some space as well
_MORE_BYTES = 128 * 1024  # for the WAL and the WAL index, which even the smallest copy has


def free_bytes(folder: Path) -> int:
    """Return how many bytes are free on the disk of `folder`.

    Raises:
        OSError: the folder is gone.
    """
    return shutil.disk_usage(folder).free


def check_space_for_copy(size: int, folder: Path) -> None:
    """Check that a copy of `size` bytes fits in `folder`, and can be checked there.

    Raises:
        OSError: it does not fit.
    """
    free = free_bytes(folder)
    if free < size * _SIZES + _MORE_BYTES:
        about = f"no space for a copy of {size} bytes, {free} are free"
        raise OSError(errno.ENOSPC, about, str(folder))
