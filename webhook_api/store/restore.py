"""Restore: a file takes the place of the database, while the service goes on.

At each moment, even after a kill, one of the two files is the complete database. The old one,
which is kept, has all that was acknowledged before the swap; the new one has all after it.
"""

import errno
import os
import shutil
import signal
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from webhook_api.errors import SchemaError
from webhook_api.store.backup import DamagedError, check_room_for, is_ours
from webhook_api.store.connections import connect, sync_folder
from webhook_api.store.copying import Progress, copy_moment, in_place_when_complete, no_progress
from webhook_api.store.database import Database
from webhook_api.store.schema import migrate
from webhook_api.store.swapping import put_in_place, restored_path
from webhook_api.store.verify import Report, check_copy

STDIN = Path("-")
_READERS_PATIENCE_S = 10.0
_RETRY_S = 0.05
_HELD_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Restored(NamedTuple):
    """What the check of the new file found, and where the old one is kept, if there was one."""

    report: Report
    kept: Path | None


def restore(database: Database, file: Path, progress: Progress = no_progress) -> Restored:
    """Put a copy of `file` in the place of the database, checked and with our schema.

    Raises:
        OSError: `file` is not a database of this service or is of a newer version, or there is no
            room.
        BlockingIOError: a long read did not end.
        DamagedError: `file` failed its check.
    """
    if database.path.is_symlink():
        raise OSError(errno.EINVAL, "is a link: name the file itself", str(database.path))
    if file != STDIN and database.path.exists() and file.samefile(database.path):
        raise OSError(errno.EINVAL, "is the database itself", str(file))
    with ExitStack() as locks:
        with in_place_when_complete(restored_path(database.path)) as partial:
            _copy(file, partial)
            report = _check(file, partial, progress)
            _take_owner_of(database.path, partial)
            _sync(partial)  # now, before others have to wait
            complete = locks.enter_context(_at_rest(database))
        try:
            with _signals_held():
                kept = _swap(database, complete=complete)
        finally:
            if database.path.exists():
                restored_path(database.path).unlink(missing_ok=True)
    return Restored(report, kept)


def _copy(file: Path, partial: Path) -> None:
    if file == STDIN:
        with partial.open("wb") as copy:
            shutil.copyfileobj(sys.stdin.buffer, copy)
        check_room_for(0, partial.parent)
        return
    with file.open("rb") as content:
        check_room_for(os.fstat(content.fileno()).st_size, partial.parent)
        if file.with_name(file.name + "-wal").exists():
            with closing(connect(file, "ro", patience_s=0)) as source:
                copy_moment(source, partial)
            return
        # SQLite could not open a backup in a read-only folder.
        with partial.open("wb") as copy:
            shutil.copyfileobj(content, copy)


def _check(file: Path, partial: Path, progress: Progress) -> Report:
    if not is_ours(partial):
        raise OSError(errno.EINVAL, "is no database of this service", str(file))
    try:
        with closing(connect(partial, "rw", patience_s=0)) as copy:
            migrate(copy)
        report = check_copy(partial, progress)
    except SchemaError as error:
        raise OSError(errno.EINVAL, str(error), str(file)) from None
    except sqlite3.Error as error:
        of_the_disk = getattr(error, "sqlite_errorcode", 0) & 0xFF in (
            sqlite3.SQLITE_FULL,
            sqlite3.SQLITE_IOERR,
        )
        raise OSError(errno.EIO, str(error), str(partial if of_the_disk else file)) from None
    if report.differences:
        raise DamagedError(report)
    return report


def _take_owner_of(old: Path, new: Path) -> None:
    """Give `new` the owner and mode of `old`, so that the service can open it."""
    with suppress(FileNotFoundError, PermissionError):
        status = old.stat()
        new.chmod(status.st_mode)
        os.chown(new, status.st_uid, status.st_gid)


def _sync(file: Path) -> None:
    with file.open("rb") as content:
        os.fsync(content)


@contextmanager
def _at_rest(database: Database) -> Iterator[bool]:
    """Hold the write lock, after the content of the WAL was moved into the database file.

    Yields whether that could be done: not if the file is damaged or missing.

    Raises:
        BlockingIOError: a reader still needs the WAL after `_READERS_PATIENCE_S`.
    """
    deadline = time.monotonic() + _READERS_PATIENCE_S
    while True:
        with database.write_lock() as lock:
            database.make_wal_durable(lock)
            complete = _checkpoint(database)
            if complete is not None:
                yield complete
                return
        if time.monotonic() > deadline:
            raise BlockingIOError(errno.EAGAIN, "a long read is under way; try again later")
        time.sleep(_RETRY_S)


def _checkpoint(database: Database) -> bool | None:
    """Return whether the file is complete now; None if a reader still needs the WAL."""
    try:
        database.finish_restore()
        if not database.path.exists():
            return False
        with closing(connect(database.path, "rw", patience_s=0)) as connection:
            busy, logged, moved = connection.execute("PRAGMA wal_checkpoint").fetchone()
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in (
            sqlite3.SQLITE_NOTADB,
            sqlite3.SQLITE_CORRUPT,
        ):
            return False
        raise
    return True if not busy and logged == moved else None


def _swap(database: Database, *, complete: bool) -> Path | None:
    """Move the old file away and put the new one in its place.

    Renaming the old file is the decisive step. After a kill behind it, the next process that
    holds the write lock does the rest.
    """
    kept = None
    with database.files_locked(exclusive=True):
        if database.path.exists():
            now = datetime.now(UTC)
            name = f"{database.path.stem}-replaced-{now:%Y%m%dT%H%M%S.%fZ}{database.path.suffix}"
            kept = database.path.rename(database.path.with_name(name))
            sync_folder(kept.parent)
            if complete:
                database.wal_path.unlink(missing_ok=True)
            elif database.wal_path.exists():
                database.wal_path.rename(kept.with_name(kept.name + "-wal"))
        put_in_place(database.path)
    return kept


@contextmanager
def _signals_held() -> Iterator[None]:
    """Hold back Ctrl-C and similar signals until the end of the `with` block."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _HELD_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
