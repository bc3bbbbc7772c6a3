"""Copies the database, as it is at one moment, into a file."""

import errno
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from webhook_api.store.connections import Connection, connect
from webhook_api.store.result_codes import primary_result_code
from webhook_api.store.transactions import read_transaction

Progress = Callable[[int, int], None]  # called with how much is done, and how much there is

_COPY_PAGES = 1024  # 4 MiB


def no_progress(_done: int, _of: int) -> None:
    """Ignore the progress."""


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
