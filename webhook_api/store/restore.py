"""Restore: a file takes the place of the database, while the service goes on.

At each moment one of the two is the database, whole, whatever is killed: what was acknowledged
before the swap is in the one that is kept, and what is acknowledged after it in the new one.
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
from webhook_api.store.copying import Progress, copy_moment, in_place_when_whole, no_progress
from webhook_api.store.database import Database
from webhook_api.store.schema import migrate
from webhook_api.store.swapping import put_in_place, restored_path
from webhook_api.store.verify import Report, check_copy

STDIN = Path("-")
_READERS_PATIENCE_S = 10.0
_RETRY_S = 0.05
_NOT_SUDDEN = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Restored(NamedTuple):
    """What is in place now, and under which name the file before it is kept, if there was one."""

    report: Report
    kept: Path | None


def restore(database: Database, file: Path, progress: Progress = no_progress) -> Restored:
    """Put a copy of `file` in the place of the database, checked and of our schema.

    Raises:
        OSError: `file` is no database of this service, or of a newer version, or there is no room.
        BlockingIOError: reads that were long under way did not end.
        DamagedError: `file` is not what it should be.
    """
    if database.path.is_symlink():
        raise OSError(errno.EINVAL, "is a link: name the file itself", str(database.path))
    if file != STDIN and database.path.exists() and file.samefile(database.path):
        raise OSError(errno.EINVAL, "is the database itself", str(file))
    with ExitStack() as locks:
        with in_place_when_whole(restored_path(database.path)) as partial:
            _copy(file, partial)
            report = _check(file, partial, progress)
            _take_owner_of(database.path, partial)
            _sync(partial)  # now, and not while everybody waits
            complete = locks.enter_context(_at_rest(database))
        try:
            with _undisturbed():
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
        # Not by SQLite, which could not open a backup in a folder that is read-only.
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
    """Let the service open `new`, though another user restores."""
    with suppress(FileNotFoundError, PermissionError):
        status = old.stat()
        new.chmod(status.st_mode)
        os.chown(new, status.st_uid, status.st_gid)


def _sync(file: Path) -> None:
    with file.open("rb") as content:
        os.fsync(content)


@contextmanager
def _at_rest(database: Database) -> Iterator[bool]:
    """Hold the write lock, with a database file that is complete without its WAL.

    Gives False if the file is so damaged that SQLite cannot bring it there.

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
    """Return whether the file is complete now; None if a reader is in the way."""
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
    """Move the old file away and the new one in its place; a kill may come after any step.

    Nothing but the renaming of the old file decides: from there on, whoever has the write lock
    next finishes the rest.
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
def _undisturbed() -> Iterator[None]:
    """Let Ctrl-C and the like wait for the end of the `with` block."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _NOT_SUDDEN)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
