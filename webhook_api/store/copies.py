"""Copies of the database as it is at one moment: complete, or removed.

A file has another name until it is complete, and is removed if it never is. Others may be able to
write in the folder of a backup. So the name is random, and the file is new: nobody can have put a
file or a link of that name there before (`tempfile.mkstemp` makes it with O_EXCL, O_NOFOLLOW, and
for our user alone). The lock on it says that its command still runs.
"""

import errno
import fcntl
import glob
import os
import re
import shutil
import sqlite3
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from webhook_api.store.connections import Connection, connect, primary_result_code
from webhook_api.store.files import PARTIAL, SQLITE_ENDINGS, beside, sync_folder
from webhook_api.store.lock import is_at, read_transaction

Progress = Callable[[int, int], None]  # called with how much is done, and how much there is

_COPY_PAGES = 1024  # 4 MiB
_RANDOM = re.compile(r".*\.[a-z0-9_]{8}" + re.escape(PARTIAL))


@contextmanager
def temporary_file(base: Path) -> Iterator[tuple[Path, int]]:
    """Hold an empty file beside `base` for a `with` block, and SQLite's files beside it.

    Yields its path, and a descriptor of it. If the file has another name at the end, it stays.
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
    """
    with temporary_file(destination) as (partial, descriptor):
        yield partial
        os.fsync(descriptor)
        _remove(partial, *SQLITE_ENDINGS)
        partial.replace(destination)
    sync_folder(destination.parent)


@contextmanager
def temporary_folder(base: Path) -> Iterator[Path]:
    """Hold an empty folder beside `base`, for our user alone, for a `with` block."""
    remove_leftovers(base)
    folder = Path(tempfile.mkdtemp(PARTIAL, f"{base.name}.", base.parent))
    with _locked(folder):
        try:
            yield folder
        finally:
            shutil.rmtree(folder)


def remove_leftovers(base: Path) -> None:
    """Remove what killed commands left of `base`, unless a command is using it."""
    for file in base.parent.glob(f"{glob.escape(base.name)}*{PARTIAL}"):
        if not _RANDOM.fullmatch(file.name):
            continue
        with suppress(OSError):  # it is in use, or another user's
            status = file.lstat()
            if stat.S_ISDIR(status.st_mode):
                with _locked(file):
                    shutil.rmtree(file)
            elif stat.S_ISREG(status.st_mode) and status.st_nlink == 1:
                with _locked(file):
                    _remove(file)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock of a file or folder, if no command is using it; otherwise raise OSError."""
    # Not blocking, if somebody has just put a FIFO there.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(path, flags)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
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


def no_progress(_done: int, _of: int) -> None:
    """Ignore the progress."""


@contextmanager
def naming_full_disk(path: Path) -> Iterator[None]:
    """Name `path` in an error that says that a disk is full, but not which one."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        of_sqlite = primary_result_code(error) == sqlite3.SQLITE_FULL
        of_system = isinstance(error, OSError) and error.errno == errno.ENOSPC
        if of_sqlite or (of_system and not getattr(error, "filename", None)):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from None
        raise


def copy_moment(source: Connection, path: Path, progress: Progress = no_progress) -> None:
    """Copy the database that `source` shows now into the empty file at `path`.

    It is one read transaction. So what others commit meanwhile is not copied, and SQLite does not
    begin again. Checkpoints meanwhile move only what was committed before; the rest stays in the
    WAL.
    """
    copy = connect(path, "rw", timeout_s=0)
    with closing(copy), path.open("rb") as file:

        def after_each_part(_status: int, remaining: int, total: int) -> None:
            # Otherwise the service's next fsync would wait until the whole copy is on disk.
            os.fdatasync(file)
            progress(total - remaining, total)

        copy.execute("PRAGMA journal_mode = OFF")
        copy.execute("PRAGMA synchronous = OFF")
        with naming_full_disk(path), read_transaction(source):
            source.backup(copy, pages=_COPY_PAGES, progress=after_each_part)
