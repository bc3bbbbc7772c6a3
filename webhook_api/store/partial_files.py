"""Files that have another name until they are complete, and are removed if they never are."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from webhook_api.store.connections import sync_folder
from webhook_api.store.database_files import (
    PARTIAL,
    SQLITE_ENDINGS,
    VERIFIED,
    beside,
    temporary_files,
)
from webhook_api.store.lock import is_at, take

_PATIENCE_S = 1.0  # for another command that is about to end


@contextmanager
def temporary_file(path: Path, *, patience_s: float = _PATIENCE_S) -> Iterator[int]:
    """Hold an empty file at `path` for a `with` block, and SQLite's files beside it.

    Yields its descriptor. If the file has another name at the end, it stays.

    Raises:
        BlockingIOError: another process still has a file there after `patience_s`.
        OSError: the folder cannot be written.
    """
    try:
        # While this waited, the holder of the file can have given it its final name, even that of
        # the database. Then this takes a new file.
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


def remove_leftovers(database: Path) -> None:
    """Remove the files that killed commands left of `database`, unless a command is using them."""
    for file in filter(Path.exists, temporary_files(database)):
        with suppress(BlockingIOError), temporary_file(file, patience_s=0):
            pass
        if file.name == VERIFIED:
            with suppress(OSError):  # it is in use
                file.parent.rmdir()


def _remove(file: Path, *endings: str) -> None:
    for ending in endings:
        beside(file, ending).unlink(missing_ok=True)
