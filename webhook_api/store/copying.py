"""Writes a file under another name until it is complete; copies the database into a file."""

import errno
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from webhook_api.store.connections import Connection, connect, sync_folder
from webhook_api.store.database_files import PARTIAL, SQLITE_ENDINGS, beside
from webhook_api.store.lock import is_at, take
from webhook_api.store.result_codes import primary_result_code
from webhook_api.store.transactions import read_transaction

Progress = Callable[[int, int], None]  # called with how much is done, and how much there is

_COPY_PAGES = 1024  # 4 MiB
_PATIENCE_S = 1.0  # for another command that is about to end


def no_progress(_done: int, _of: int) -> None:
    """Ignore the progress."""


@contextmanager
def temporary_file(path: Path, *, patience_s: float = _PATIENCE_S) -> Iterator[int]:
    """Hold an empty file at `path` for a `with` block, and SQLite's files beside it.

    Yields its descriptor. If the file has another name at the end, it stays.

    Raises:
        BlockingIOError: another process still has a file there after `patience_s`.
        OSError: the folder cannot be written.
    """
    try:
        # Its holder may have renamed the file meanwhile, and it may be the database now: then
        # this takes a new one.
        descriptor = take(path, patience_s, mode=0o640)
    except BlockingIOError:
        raise BlockingIOError(errno.EAGAIN, "another command is writing it", str(path)) from None
    try:
        os.ftruncate(descriptor, 0)  # a killed command may have left something
        _remove(path, *SQLITE_ENDINGS)
        yield descriptor
    finally:
        if is_at(descriptor, path):
            _remove(path, "", *SQLITE_ENDINGS)
        os.close(descriptor)


@contextmanager
def in_place_when_complete(destination: Path) -> Iterator[Path]:
    """Yield an empty file beside `destination`, which gets that name at the end of the block.

    Its content and name are on disk then. If the block fails, the new file is removed, and
    `destination` is as it was.

    Raises:
        BlockingIOError: another process is making the same file.
        OSError: the folder cannot be written.
    """
    partial = beside(destination, PARTIAL)
    with temporary_file(partial) as descriptor:
        yield partial
        os.fsync(descriptor)
        _remove(partial, *SQLITE_ENDINGS)
        partial.replace(destination)
    sync_folder(destination.parent)


def remove_leftover(path: Path) -> None:
    """Remove the temporary file that a killed command left at `path`, if none is using it."""
    if path.exists():
        with suppress(BlockingIOError), temporary_file(path, patience_s=0):
            pass


@contextmanager
def naming_full_disk(path: Path) -> Iterator[None]:
    """Name `path` in an error that says that a disk is full, but not which one."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        of_sqlite = primary_result_code(error) == sqlite3.SQLITE_FULL
        of_system = isinstance(error, OSError) and (error.errno, error.filename) == (
            errno.ENOSPC,
            None,
        )
        if of_sqlite or of_system:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from None
        raise


def _remove(file: Path, *endings: str) -> None:
    for ending in endings:
        beside(file, ending).unlink(missing_ok=True)


def copy_moment(source: Connection, path: Path, progress: Progress = no_progress) -> None:
    """Copy the database that `source` shows now into the empty file at `path`.

    It is one read transaction: what others commit meanwhile is not copied, and does not make
    SQLite begin again. Until the copy is made, checkpoints move only what was committed before,
    and the rest stays in the WAL.

    Raises:
        OSError: the disk of `path` is full.
        sqlite3.Error: it cannot be copied.
    """
    copy = connect(path, "rw", patience_s=0)
    with closing(copy), path.open("rb") as file:

        def after_each_part(_status: int, remaining: int, total: int) -> None:
            # Otherwise the service's next fsync would wait until the whole copy is on disk.
            os.fdatasync(file)
            progress(total - remaining, total)

        copy.execute("PRAGMA journal_mode = OFF")
        copy.execute("PRAGMA synchronous = OFF")
        with naming_full_disk(path), read_transaction(source):
            source.backup(copy, pages=_COPY_PAGES, progress=after_each_part)
