"""Files that have another name until they are complete, and are removed if they never are.

Others may be able to write in the folder of a backup. So the name is random, and the file is new:
nobody can have put a file or a link of that name there before (`tempfile.mkstemp` makes it with
O_EXCL, O_NOFOLLOW, and for our user alone). The lock on it says that its command still runs.
"""

import fcntl
import glob
import os
import re
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from webhook_api.store.connections import sync_folder
from webhook_api.store.database_files import PARTIAL, SQLITE_ENDINGS, beside
from webhook_api.store.lock import is_at

_RANDOM = re.compile(r".*\.[a-z0-9_]{8}" + re.escape(PARTIAL))


@contextmanager
def temporary_file(base: Path) -> Iterator[tuple[Path, int]]:
    """Hold an empty file beside `base` for a `with` block, and SQLite's files beside it.

    Yields its path, and a descriptor of it. If the file has another name at the end, it stays.

    Raises:
        OSError: the folder cannot be written.
    """
    remove_leftovers(base)
    path, descriptor = _locked_file(base)
    try:
        yield path, descriptor
    finally:
        if is_at(descriptor, path):
            _remove(path)
        os.close(descriptor)


@contextmanager
def in_place_when_complete(destination: Path) -> Iterator[Path]:
    """Yield an empty file beside `destination`, which gets that name at the end of the block.

    Its content and name are on disk then. If the block fails, the new file is removed, and
    `destination` is as it was.

    Raises:
        OSError: the folder cannot be written.
    """
    with temporary_file(destination) as (partial, descriptor):
        yield partial
        os.fsync(descriptor)
        _remove(partial, *SQLITE_ENDINGS)
        partial.replace(destination)
    sync_folder(destination.parent)


def remove_leftovers(base: Path) -> None:
    """Remove the files that killed commands left of `base`, unless a command is using them."""
    for file in base.parent.glob(f"{glob.escape(base.name)}*{PARTIAL}"):
        with suppress(OSError):  # it is in use, or another user's
            status = file.lstat()
            one_name = stat.S_ISREG(status.st_mode) and status.st_nlink == 1
            if one_name and _RANDOM.fullmatch(file.name):
                _remove_unused(file)


def _remove_unused(file: Path) -> None:
    descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _remove(file)
    finally:
        os.close(descriptor)


def _locked_file(base: Path) -> tuple[Path, int]:
    while True:
        descriptor, name = tempfile.mkstemp(PARTIAL, f"{base.name}.", base.parent)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if is_at(descriptor, Path(name)):
            return Path(name), descriptor
        os.close(descriptor)  # another command has just taken it for a leftover


def _remove(file: Path, *endings: str) -> None:
    for ending in endings or ("", *SQLITE_ENDINGS):
        beside(file, ending).unlink(missing_ok=True)
