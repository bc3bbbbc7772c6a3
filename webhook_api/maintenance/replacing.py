"""Another file takes the place of the database, while the service goes on.

At each moment, even after a kill, one of the two files is the complete database. The old one
has all that was acknowledged before it was moved away; the new one has that, and all after it.
"""

import errno
import fcntl
import os
import signal
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from webhook_api.store import files
from webhook_api.store.connections import connect, primary_result_code
from webhook_api.store.copies import in_place_when_complete
from webhook_api.store.database import Database
from webhook_api.store.files import complete_replacement
from webhook_api.store.lock import WriteLock

TIMEOUT_S = 10.0  # with a long read
_RETRY_S = 0.05
_LITESTREAM_CHECKPOINT_S = 0.3  # longer than one takes
_READ_LOCKS = (5, 123)  # how many bytes, and from which (sqlite.org/walformat.html#locks)
_HELD_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

Step = Callable[[Path], None]  # is given the new file


def replace(
    database: Database,
    make: Step,
    *,
    keep: bool,
    finish: Step | None = None,
    timeout_s: float = TIMEOUT_S,
) -> Path | None:
    """Put the file that `make` writes in the place of the database.

    With `keep`, return the dated name that the old file has then, None if there was none.
    Without it the old file is deleted, and its WAL. `finish` is called under the write lock: it
    adds what was stored since `make` read the database. All deliveries wait for it.

    Raises:
        OSError: the database is a link, or the folder cannot be written.
        BlockingIOError: another command does the same; or Litestream's read, or with `keep` any
            other read, did not end within `timeout_s` seconds.
    """
    if database.path.is_symlink():
        raise OSError(errno.EINVAL, "is a link: name the file itself", str(database.path))
    for _ in _attempts(database, timeout_s):
        if not _may_be_replicated(database):
            break
    with ExitStack() as locks:
        with in_place_when_complete(files.beside(database.path, files.REPLACEMENT)) as partial:
            with database.write_lock() as lock:  # a killed command may have left something
                database.complete_replacement(lock)
                files.beside(database.path, files.DISCARDED).unlink(missing_ok=True)
            make(partial)
            _take_owner_of(database.path, partial)
            _sync(partial)  # now, before others have to wait
            lock, complete = locks.enter_context(_at_rest(database, keep, timeout_s))
            if finish:
                finish(partial)
        try:
            with _signals_held():
                kept = _move_files(database, lock, complete=complete, keep=keep)
        finally:
            if database.path.exists():
                files.beside(database.path, files.REPLACEMENT).unlink(missing_ok=True)
    return kept


def _take_owner_of(old: Path, new: Path) -> None:
    """Give `new` the owner of `old`, so that the service can open it."""
    with suppress(FileNotFoundError, PermissionError):
        status = old.stat()
        os.chown(new, status.st_uid, status.st_gid)


def _sync(file: Path) -> None:
    with file.open("rb") as content:
        os.fsync(content)


@contextmanager
def _at_rest(database: Database, keep: bool, timeout_s: float) -> Iterator[tuple[WriteLock, bool]]:
    """Hold the write lock; with `keep`, after the WAL was moved into the database file.

    Yields the lock, and whether the WAL can be deleted: not if the database file is damaged or
    missing. Raises BlockingIOError if a reader still needs the WAL.
    """
    for _ in _attempts(database, timeout_s):
        with database.write_lock() as lock:
            complete = None
            if not _may_be_replicated(database):
                database.make_wal_durable(lock)
                database.complete_replacement(lock)
                complete = _checkpoint(database, lock) if keep else True
            if complete is not None:
                yield lock, complete
                return


def _attempts(database: Database, timeout_s: float) -> Iterator[None]:
    """Yield once for each attempt; after `timeout_s` seconds raise BlockingIOError."""
    deadline = time.monotonic() + timeout_s
    while True:
        yield
        if time.monotonic() > deadline:
            advice = "stop Litestream first" if database.leaves_checkpoints else "try again later"
            raise BlockingIOError(errno.EAGAIN, f"a long read is still running; {advice}")
        time.sleep(_RETRY_S)


def _may_be_replicated(database: Database) -> bool:
    """Return whether Litestream may run, which would go on with the old file.

    It always has a read transaction open, except for a moment when it makes a checkpoint. But
    version 0.5.17 loses this transaction when the upload request that began it ends.
    """
    if not database.leaves_checkpoints or _is_read(database):
        return database.leaves_checkpoints
    if database.litestream_socket and _listens(database.litestream_socket):
        return True
    time.sleep(_LITESTREAM_CHECKPOINT_S)
    return _is_read(database)


def _listens(path: Path) -> bool:
    """Return whether a process listens at a Unix socket, even one that hangs."""
    with socket.socket(socket.AF_UNIX) as client:
        client.setblocking(False)
        try:
            client.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        except OSError:  # too many wait for it
            return True
    return True


def _is_read(database: Database) -> bool:
    """Return whether any process has a read transaction open on the file."""
    wal_index = files.beside(database.path, files.WAL_INDEX)
    with suppress(FileNotFoundError), wal_index.open("r+b") as locks:
        try:
            fcntl.lockf(locks, fcntl.LOCK_EX | fcntl.LOCK_NB, *_READ_LOCKS)
        except OSError:
            return True
    return False


def _checkpoint(database: Database, lock: WriteLock) -> bool | None:
    """Return whether the file is complete now; None if a reader still needs the WAL."""
    try:
        if not files.is_database(database.path):
            return False
        with closing(connect(database.path, "rw", timeout_s=0)) as connection:
            busy, logged, moved = lock.admit(connection).execute("PRAGMA wal_checkpoint").fetchone()
    except sqlite3.DatabaseError as error:
        if primary_result_code(error) in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
            return False
        raise
    return True if not busy and logged == moved else None


def _move_files(database: Database, lock: WriteLock, *, complete: bool, keep: bool) -> Path | None:
    """Move the old file away, and put the replacement in its place.

    Renaming the old file is the decisive step. If this process is killed after it, the next one
    that holds the write lock does the rest.
    """
    old = None
    with database.files_locked(exclusive=True):
        if database.path.exists():
            old = files.beside(database.path, files.DISCARDED)
            if keep:
                now = f"{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}"
                old = old.with_name(f"{database.path.stem}-replaced-{now}{database.path.suffix}")
            database.path.rename(old)
            files.sync_folder(old.parent)
            if complete:
                database.wal_path.unlink(missing_ok=True)
            elif database.wal_path.exists():
                database.wal_path.rename(files.beside(old, files.WAL))
        complete_replacement(database.path, lock)
    return old if keep else None


@contextmanager
def _signals_held() -> Iterator[None]:
    """Hold back SIGTERM and SIGHUP until the end of the `with` block; Ctrl-C has no effect.

    It would come too late: at the end of the block all is done.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _HELD_SIGNALS)
    try:
        yield
    finally:
        handler = signal.signal(signal.SIGINT, signal.SIG_IGN)  # which drops one that is pending
        signal.signal(signal.SIGINT, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
