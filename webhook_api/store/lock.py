"""The write lock: a file that every process locks before it writes the database; transactions.

All writes, commits and checkpoints happen under it. The kernel queues those who wait, while
SQLite's own busy handler would sleep and try again. And no checkpoint can run beside a commit,
which can corrupt a WAL in SQLite 3.7.0 to 3.51.2 (sqlite.org/wal.html#walresetbug). Readers need
no lock: their connections are read-only, and such a connection never checkpoints. Litestream does
not know the lock, so with CHECKPOINTS=litestream it alone makes checkpoints: the defect is in the
connection that makes one, and Litestream 0.5.17 has SQLite 3.53.0.

What writes takes a `LockedConnection`, so a call without the lock does not pass the type checker.
Transactions are `with` blocks: our connections never begin one by themselves.
"""

import errno
import fcntl
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NewType

from webhook_api.store.connections import Connection, connect

_RETRY_S = 0.01
_CACHE_KIB = 64 * 1024  # of a copy that is worked on


# A connection that may write now. Only `WriteLock.admit` and `unshared` make one.
LockedConnection = NewType("LockedConnection", Connection)


class WriteLock:
    """The right to write, and the mark `wal_suspect`, which stays when its holder dies.

    Suspect means: a write failed, and the page cache may show what the disk does not have.
    The mark is the size of the lock file, 0 or 1. It needs no space on the disk and no sync: when
    the machine stops, the page cache is gone as well.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @property
    def wal_suspect(self) -> bool:
        """Whether a write failed since the state on disk was last known to be good."""
        return os.fstat(self._descriptor).st_size > 0

    def mark_wal_suspect(self, wal_suspect: bool) -> None:
        """Set or remove the mark, for every process."""
        os.ftruncate(self._descriptor, int(wal_suspect))

    def admit(self, connection: Connection) -> LockedConnection:
        """Return `connection`, which may write until the lock is released."""
        assert self._descriptor >= 0, "the write lock was released"
        return LockedConnection(connection)

    def release(self) -> None:
        """Let others write."""
        os.close(self._descriptor)
        self._descriptor = -1


def unshared(connection: Connection) -> LockedConnection:
    """Return `connection`, which may write without the lock: nobody else uses its file.

    That is a temporary file, which has a lock of its own, or a database in memory.
    """
    return LockedConnection(connection)


def open_unshared(path: Path, *pragmas: str) -> LockedConnection:
    """Open a file that nobody else uses until it is complete and synced."""
    connection = unshared(connect(path, "rw", timeout_s=0))
    for pragma in ("synchronous = OFF", f"cache_size = -{_CACHE_KIB}", *pragmas):
        connection.execute(f"PRAGMA {pragma}")
    return connection


@contextmanager
def hold(
    path: Path,
    timeout_s: float | None = None,
    *,
    shared: bool = False,
    access: int = os.O_RDWR,
    held: str = os.strerror(errno.EAGAIN),
) -> Iterator[WriteLock]:
    """Hold the lock at `path`; every other thread and process waits meanwhile.

    A `shared` one keeps out only those who want it for themselves. Whoever opens the lock file
    with the `access` O_RDONLY can hold it on a disk that became read-only.

    Raises:
        BlockingIOError: another still holds it after `timeout_s` seconds; `held` says so.
    """
    try:
        descriptor = _take(path, timeout_s, fcntl.LOCK_SH if shared else fcntl.LOCK_EX, access)
    except BlockingIOError:
        raise BlockingIOError(errno.EAGAIN, held) from None
    lock = WriteLock(descriptor)
    try:
        yield lock
    finally:
        lock.release()


def _take(path: Path, timeout_s: float | None, operation: int, access: int) -> int:
    """Return a descriptor of the file at `path`, locked; a missing file is created.

    Only our user can open it: whoever can open a file, even to read, can lock it (flock(2)).
    Without `timeout_s` (seconds) the kernel queues us; with it, we try again and again, and raise
    BlockingIOError at its end.
    """
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    while True:
        # Opened each time: the folder at this path may be another one now.
        flags = access | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o600)
        try:
            fcntl.flock(descriptor, operation | (fcntl.LOCK_NB if deadline is not None else 0))
            # While we waited, the file may have been replaced, or got another name.
            if is_at(descriptor, path):
                return descriptor
        except BlockingIOError:
            if deadline is not None and time.monotonic() >= deadline:
                os.close(descriptor)
                raise
            time.sleep(_RETRY_S)
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def is_at(descriptor: int, path: Path) -> bool:
    """Return whether `descriptor` is of the file that is at `path` now."""
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(descriptor), path.stat())
    return False


@contextmanager
def transaction(db: LockedConnection) -> Iterator[None]:
    """Commit all that a `with` block writes, or nothing."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    finally:
        _roll_back(db)


@contextmanager
def read_transaction(db: sqlite3.Connection) -> Iterator[None]:
    """Make the reads of a `with` block see one state of the database: that of its start."""
    db.execute("BEGIN")
    try:
        # BEGIN alone reads nothing: the state would be that of the first read, and each step of a
        # backup would have a transaction of its own (sqlite.org/lang_transaction.html, 2.1).
        db.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone()
        yield
    finally:
        _roll_back(db)


@contextmanager
def synced_later(db: LockedConnection) -> Iterator[None]:
    """Commit without a sync in a `with` block; the next commit after it syncs the whole WAL.

    A power cut before that undoes these commits, the newest first, and nothing else.
    """
    db.execute("PRAGMA synchronous = NORMAL")
    try:
        yield
    finally:
        try:
            db.execute("PRAGMA synchronous = FULL")
        except sqlite3.Error:
            db.close()  # so that it never commits a delivery without a sync
            raise


def _roll_back(db: sqlite3.Connection) -> None:
    # Some errors end the transaction by themselves (sqlite.org/lang_transaction.html, 3).
    if db.in_transaction:
        db.execute("ROLLBACK")
