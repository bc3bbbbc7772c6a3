"""The one way to write the database: under the write lock.

What is stored is on disk before `Writer.write` returns; a removal is on disk with the next commit.

Repeating a failed sync does not help: the kernel reports the error once, and then treats the
pages as written (PostgreSQL wiki, "Fsync Errors"). SQLite would find them in its WAL, as if they
were committed. So after an I/O error nobody writes until the WAL was written and synced again.

No write may take the space that the next checkpoint needs. A checkpoint moves pages from the WAL
into the database file, which grows; only when all are moved does the WAL begin again. If the WAL
filled the disk, no checkpoint could end, and nothing could be stored until somebody makes space.
While a read lasts, the WAL only grows.
"""

import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from typing import TypeVar

from webhook_api.errors import SchemaError, Unavailable
from webhook_api.models import InboundMessage
from webhook_api.store.connections import Connection, FileIdentity, connect, primary_result_code
from webhook_api.store.database import Database
from webhook_api.store.dead_letters import DeadLetter, insert_dead_letters
from webhook_api.store.files import HEADER_STRING, sync_folder
from webhook_api.store.indexing import count_unindexed, index_messages
from webhook_api.store.lock import LockedConnection, WriteLock, synced_later, transaction
from webhook_api.store.messages import Selection, StoreResult, insert_messages, remove_messages
from webhook_api.store.schema import check_objects, check_schema

INDEX_EVERY = 256  # messages: indexing more at once is cheaper, but others wait longer
CHECKPOINT_EVERY = 8192  # pages in the WAL, that is 32 MiB
STEP_CHARS = 32 * 1024  # indexed at once: deliveries wait for it, up to 0.2 s in Chinese

_SMALL_STEP_CHARS = 4096  # where there is little space
_MAX_INDEXED_ROWS = 1024  # messages, at once
_RETRY_UPKEEP_S = 10.0
_RETRY_LOCKED_S = 0.005
_MAX_IDLE_WAL_BYTES = 64 * 1024 * 1024
_LOCKED = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)

# What a writer may wait for, in the words of an error message.
_THE_WRITE_LOCK = "another process, which holds the write lock"
_ANOTHER_PROGRAM = "another program, which writes to the file"
_THE_DISK = "the disk"

# Bytes, and how many pages in the WAL something takes, about.
_RESERVE_BYTES = 256 * 1024
_PAGE_BYTES = 4096
_BLOCK_BYTES = 512  # of `st_blocks` (stat(2))
_PAGES_OF_A_COMMIT = 6  # besides those of each message
_PAGES_OF_A_MESSAGE = 6
_PAGES_TO_REMOVE = 1024  # a batch of messages; most of them are of the search index
_CHARS_OF_A_PAGE = 75  # of texts in the search index, in a script with many characters

T = TypeVar("T")


def _pages_to_store(messages: int, kept_bytes: int = 0) -> int:
    """Return the pages for so many messages; `kept_bytes` are of payloads and dead letters."""
    return _PAGES_OF_A_COMMIT + _PAGES_OF_A_MESSAGE * messages + kept_bytes // _PAGE_BYTES


def pages_to_index(chars: int) -> int:
    """Return the pages for indexing texts of so many characters."""
    return 1 + chars // _CHARS_OF_A_PAGE


class Writer:
    """What writes in one process: a connection that only one thread uses.

    When the last connection to a file is closed, SQLite makes a checkpoint and deletes the WAL *by
    name*, unless this connection is read-only. After a replacement, the WAL of another file has
    this name; and if the file is damaged, the WAL is the only good copy. So `_anchor`, which is
    read-only, is closed last.
    """

    def __init__(
        self,
        database: Database,
        *,
        index_every: int = INDEX_EVERY,
        checkpoint_every: int = CHECKPOINT_EVERY,
        cache_kib: int | None = None,
        max_idle_wal_bytes: int = _MAX_IDLE_WAL_BYTES,
        retry_upkeep_s: float = _RETRY_UPKEEP_S,
    ) -> None:
        """Index after `index_every` messages; checkpoint after about `checkpoint_every` pages."""
        self.waits_for = _THE_DISK  # for the error of a caller that gives up
        self._database = database
        self._index_every = index_every
        self._checkpoint_every = float("inf") if database.leaves_checkpoints else checkpoint_every
        self._cache_kib = cache_kib
        self._max_idle_wal_bytes = max_idle_wal_bytes
        self._retry_upkeep_s = retry_upkeep_s
        self._unindexed = 0  # messages
        self._pages_in_wal = 0
        self._no_upkeep_before = 0.0  # on the monotonic clock
        self._wal_suspect = False
        self._identity: FileIdentity | None = None
        self._connection: Connection | None = None
        self._anchor: Connection | None = None
        self._file = -1

    @property
    def file(self) -> FileIdentity:
        """The file that was written last."""
        assert self._identity is not None, "nothing was written yet"
        return self._identity

    def write(self, work: Callable[[LockedConnection], T], *, timeout_s: float | None = None) -> T:
        """Call `work` under the write lock, and return what it returns.

        If another program locks the database without our write lock, this tries again and again,
        and does not hold the lock meanwhile. `work` is then called again from its start.

        Raises:
            Unavailable: there is no file, or it is not a database.
            sqlite3.Error, OSError: it cannot be written, or another program locked it for
                `timeout_s` seconds. The wait for our own write lock has no limit.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        before_lock, under_lock = _THE_WRITE_LOCK, _THE_DISK
        while True:
            self.waits_for = before_lock
            with self._database.write_lock() as lock:
                self.waits_for = under_lock
                try:
                    return work(self._ready_connection(lock))
                except sqlite3.Error as error:
                    self._react_to(error, lock)
                    is_locked = primary_result_code(error) in _LOCKED
                    if not is_locked or (deadline and time.monotonic() > deadline):
                        raise
            self.waits_for = before_lock = under_lock = _ANOTHER_PROGRAM
            time.sleep(_RETRY_LOCKED_S)

    def _react_to(self, error: sqlite3.Error, lock: WriteLock) -> None:
        """Mark the WAL as suspect after an I/O error; after most others, close the connection.

        Not if the disk is full or the file locked: then both are as good as before.
        """
        code = primary_result_code(error)
        if code == sqlite3.SQLITE_IOERR:
            # The connection stays open: after closing it, the next one might read the WAL again.
            self._wal_suspect = True
            # This fails if the file system is read-only; then no process can write anyway.
            with suppress(OSError):
                lock.mark_wal_suspect(True)
        elif code not in (sqlite3.SQLITE_FULL, *_LOCKED):
            self.discard()

    def _ready_connection(self, lock: WriteLock) -> LockedConnection:
        """Return a connection to the file at the database's path, which reads only what is on disk.

        SQLite would go on committing to a file that was deleted, moved away or overwritten. So
        this checks it before each batch, with one `stat` and one `pread`.
        """
        try:
            identity = self._database.identity()
        except Unavailable:
            self._database.complete_replacement(lock)
            identity = self._database.identity()
        if self._identity != identity:
            self.discard()
            if self._file >= 0:
                os.close(self._file)
            self._file = os.open(self._database.path, os.O_RDONLY | os.O_CLOEXEC)
            self._identity = identity
        # This descriptor stays open as long as the file is in use: closing any descriptor of a
        # file drops the process's POSIX locks on it, SQLite's among them
        # (sqlite.org/howtocorrupt.html, 2.2).
        if os.pread(self._file, len(HEADER_STRING), 0) != HEADER_STRING:
            raise Unavailable("database: file is not a database")
        if self._wal_suspect:
            lock.mark_wal_suspect(True)
        if self._connection is None or lock.wal_suspect:
            self._database.make_wal_durable(lock)
            self._wal_suspect = False
        if self._connection is None:
            try:
                self._open()
            except BaseException:
                self.discard()
                raise
        assert self._connection is not None
        return lock.admit(self._connection)

    def _open(self) -> None:
        self._anchor = connect(self._database.path, "ro", timeout_s=0)
        # No timeout: while SQLite waits, we hold the write lock, and all others wait.
        connection = self._connection = connect(self._database.path, "rw", timeout_s=0)
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        # The WAL grows while a read lasts; this makes it shorter again afterwards.
        connection.execute(f"PRAGMA journal_size_limit = {self._max_idle_wal_bytes}")
        if self._cache_kib:
            connection.execute(f"PRAGMA cache_size = -{self._cache_kib}")
        check_schema(connection)  # This read makes SQLite create the WAL.
        check_objects(connection)  # it may be a file that somebody put there
        self._unindexed = count_unindexed(connection, max_rows=self._index_every)
        sync_folder(self._database.path.parent)  # SQLite ignores a failure to sync its name.

    def make_space(self, connection: LockedConnection, pages: int = _pages_to_store(1)) -> None:
        """Check that so many `pages` can be written to the WAL; if not, try to shorten it.

        No transaction may be open.

        Raises:
            Unavailable: the disk is full, or the folder is gone.
        """
        database = self._database
        needed = 2 * pages * _PAGE_BYTES + _RESERVE_BYTES  # in the WAL, and in the database file
        if database.free_bytes() - database.wal_bytes() >= needed:  # ten times as quick as `_space`
            return
        missing = needed - self._space(connection)
        # If `missing` is more than `needed`, the checkpoint itself has no room.
        if 0 < missing <= needed and not database.leaves_checkpoints:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            missing = needed - self._space(connection)
        if missing > 0:
            raise Unavailable(f"database: the disk is full, {missing} more bytes have to be free")

    def _space(self, connection: Connection) -> int:
        """Return how many bytes are free besides those that a complete checkpoint needs."""
        database = self._database
        pages = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size"
        size: int = connection.execute(pages).fetchone()[0]
        # An incomplete checkpoint leaves holes in the file. Where files are compressed, it always
        # seems to have some; but no checkpoint writes more than what is in the WAL.
        growth = size - _BLOCK_BYTES * database.path.stat().st_blocks
        return database.free_bytes() - max(0, min(growth, database.wal_bytes()))

    def store(
        self,
        connection: LockedConnection,
        messages: Sequence[InboundMessage],
        dead_letters: Sequence[DeadLetter] = (),
    ) -> tuple[list[StoreResult], list[int]]:
        """Store all in one transaction.

        Return what became of each of `messages`, in their order, and the numbers of `dead_letters`.

        Raises:
            DeadLettersFull, Unavailable, sqlite3.Error, FAULTS_OF_A_ROW: nothing was stored.
        """
        kept_bytes = sum(len(message.origin.payload or "") for message in messages)
        kept_bytes += sum(len(letter.body) for letter in dead_letters)
        pages = _pages_to_store(len(messages) + len(dead_letters), kept_bytes)
        self.make_space(connection, pages)
        # One statement stores all messages. If it is alone, SQLite commits it by itself.
        with transaction(connection) if dead_letters else nullcontext():
            numbers = insert_dead_letters(connection, dead_letters) if dead_letters else []
            results = insert_messages(connection, messages)
        if any(result.created for result in results):
            self._database.note_arrival()
        self._unindexed += len(messages)
        self._pages_in_wal += pages
        return results, numbers

    def remove(
        self, connection: LockedConnection, row_ids: Sequence[int], selection: Selection
    ) -> int:
        """Remove messages (see `remove_messages`); return how many.

        The next commit of anything else puts this on disk as well, and so does `close`.

        Raises:
            Unavailable, sqlite3.Error: none was removed.
        """
        self.make_space(connection, _PAGES_TO_REMOVE)
        self._pages_in_wal += _pages_to_store(len(row_ids))
        with synced_later(connection):
            return remove_messages(connection, row_ids, selection)

    @property
    def index_or_checkpoint_is_due(self) -> bool:
        """Whether `index_and_checkpoint` has something to do."""
        is_due = (
            self._unindexed >= self._index_every or self._pages_in_wal >= self._checkpoint_every
        )
        return is_due and time.monotonic() >= self._no_upkeep_before

    def index_and_checkpoint(self, connection: LockedConnection) -> None:
        """Index some messages, and make a checkpoint, each if it is due. Then more may be due.

        Raises:
            Unavailable, sqlite3.Error: it failed; it is due again after some seconds.
        """
        self._no_upkeep_before = time.monotonic() + self._retry_upkeep_s
        if self._unindexed >= self._index_every:
            chars = STEP_CHARS
            try:
                self.make_space(connection, pages_to_index(chars))
            except Unavailable:
                chars = _SMALL_STEP_CHARS
                self.make_space(connection, pages_to_index(chars))
            index_messages(connection, max_rows=_MAX_INDEXED_ROWS, max_chars=chars)
            # Counts also messages that other processes stored and did not index.
            self._unindexed = count_unindexed(connection, max_rows=self._index_every)
        if self._pages_in_wal >= self._checkpoint_every:
            self._pages_in_wal = 0
            # Moves the pages that no reader needs any more.
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
        self._no_upkeep_before = 0.0

    def discard(self) -> None:
        """Close the connection; the next write opens the file again."""
        for connection in (self._connection, self._anchor):
            if connection is not None:
                connection.close()
        self._connection = self._anchor = None

    def close(self, *, timeout_s: float) -> None:
        """Move the content of the WAL into the database file, so that it can be copied; close.

        If another process holds the write lock for `timeout_s` seconds, the messages stay in the
        WAL, and are found there when the file is opened again.
        """
        if self._connection is None or self._database.leaves_checkpoints:
            return self.discard()
        with (
            suppress(OSError, sqlite3.Error, Unavailable, SchemaError),
            self._database.write_lock(timeout_s) as lock,
        ):
            try:
                self._ready_connection(lock).execute("PRAGMA wal_checkpoint(TRUNCATE)")
            finally:
                self.discard()
