"""The database file: preparing it, its state on disk, and its readers."""

import errno
import os
import sqlite3
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from pathlib import Path

from webhook_api.errors import SchemaError, Unavailable
from webhook_api.store import files
from webhook_api.store.connections import (
    CheckedConnection,
    Connection,
    FileIdentity,
    MisuseError,
    connect,
)
from webhook_api.store.copies import remove_leftovers
from webhook_api.store.lock import WriteLock, hold
from webhook_api.store.schema import bytes_to_migrate, migrate

_MAX_IDLE_READERS = 16
_TIMEOUT_S = 5.0  # how long to wait for locks, where a caller does not say
_REWRITE_BYTES = 1024 * 1024


class Database:
    """The file at `path`, its state on disk, and at most _MAX_IDLE_READERS readers for reuse.

    It opens nothing before the first use, so the process may still fork. With `check_connections`,
    a wrong use of its readers raises MisuseError. `leaves_checkpoints` says that Litestream makes
    the checkpoints; it listens at `litestream_socket`. With `feed_ends_at_replica`, `positions.py`
    knows the end of the feed. The file of a standby (`is_standby`) is never written: it has no
    write lock.
    """

    def __init__(
        self,
        path: Path,
        *,
        check_connections: bool = False,
        leaves_checkpoints: bool = False,
        litestream_socket: Path | None = None,
        feed_ends_at_replica: bool = False,
        is_standby: bool = False,
    ) -> None:
        self.path = path.absolute()
        self.is_standby = is_standby
        self.leaves_checkpoints = leaves_checkpoints
        self.litestream_socket = litestream_socket
        self.feed_ends_at_replica = feed_ends_at_replica
        self.wal_path = files.beside(self.path, files.WAL)
        self._lock_path = files.beside(self.path, files.WRITE_LOCK)
        self._factory = CheckedConnection if check_connections else Connection
        self._mutex = threading.Lock()  # guards the next one, and `acquired` of each reader
        self._idle: list[Connection] = []

    def prepare(self, *, create: bool = False) -> None:
        """Bring the file's schema up to date; create a missing file only with `create`.

        Only the start and the command `init-db` create the file: if a volume is missing, a running
        service must not go on with an empty one. A file that is not ours, or newer than this code,
        or a standby's copy, is left as it is.
        """
        if not self.is_standby and files.beside(self.path, files.STANDBY).exists():
            raise SchemaError("a standby's copy; flask --app wsgi promote makes it the database")
        if create:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self.write_lock(_TIMEOUT_S) as lock:
            with self.files_locked(exclusive=False):
                pass  # its file is made now: later, the disk may be full
            self.complete_replacement(lock)
            # Of a command that was killed before it moved the old file away: the old one stays.
            files.beside(self.path, files.REPLACEMENT).unlink(missing_ok=True)
            files.beside(self.path, files.DISCARDED).unlink(missing_ok=True)
            remove_leftovers(self.path)
            if create:
                files.set_old_wal_aside(self.path)
            elif not self.path.exists():
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self.path))
            created = files.is_missing_or_empty(self.path)
            foreign = self.wal_bytes() and not files.is_database(self.path)
            if (created and not create) or foreign:
                raise sqlite3.DatabaseError("file is not a database")
            # Before SQLite opens the file: closing it moves pages of the WAL into the file.
            self.make_wal_durable(lock)
            if created:
                self.path.touch(mode=0o600)
            files.make_private(self.path)
            with closing(connect(self.path, "rw", timeout_s=_TIMEOUT_S)) as connection:
                needed, free = bytes_to_migrate(connection), self.free_bytes()
                if needed > free:
                    about = f"the new schema needs {needed} bytes of space, {free} are free"
                    raise OSError(errno.ENOSPC, about, str(self.path))
                migrate(lock.admit(connection))
            if created:
                # The name of a new file is on disk only after a sync of its folder (fsync(2)).
                for folder in (self.path.parent, self.path.parent.parent):
                    files.sync_folder(folder)

    def make_wal_durable(self, lock: WriteLock) -> None:
        """Put the whole content of the write-ahead log on disk; then it is not suspect any more.

        If its writer was killed before the sync, a sync is enough. After a failed sync, the kernel
        treats the pages as written, and no later sync writes them (PostgreSQL wiki, "Fsync
        Errors"). So all of it is read and written again.
        """
        with suppress(FileNotFoundError), self.wal_path.open("r+b", buffering=0) as wal:
            at = 0
            while lock.wal_suspect and (shown := os.pread(wal.fileno(), _REWRITE_BYTES, at)):
                at += os.pwrite(wal.fileno(), shown, at)
            os.fdatasync(wal)
        if lock.wal_suspect:
            lock.mark_wal_suspect(False)

    def complete_replacement(self, lock: WriteLock) -> None:
        """Finish replacing the file, if a command was killed after moving the old one away."""
        if files.is_replacement_interrupted(self.path):
            with self.files_locked(exclusive=True):
                files.complete_replacement(self.path, lock)

    def files_locked(self, *, exclusive: bool) -> AbstractContextManager[object]:
        """Return a context in which no other process can replace the database's files.

        SQLite opens the file, the WAL and the WAL index by name, one after the other. If they were
        replaced in between, it would mix files of both databases.
        """
        names = files.beside(self.path, files.NAMES_LOCK)
        return hold(names, _TIMEOUT_S, shared=not exclusive, access=os.O_RDONLY)

    def write_lock(self, timeout_s: float | None = None) -> AbstractContextManager[WriteLock]:
        """Return a context that holds the right to write (see `lock.hold`).

        Raises:
            Unavailable: it is a standby's.
        """
        self.refuse_standby()
        return hold(self._lock_path, timeout_s, held="another process is writing")

    def refuse_standby(self) -> None:
        """Raise Unavailable if it is a standby's."""
        if self.is_standby:
            raise Unavailable("this is a standby, which stores nothing")

    def arrivals(self) -> tuple[int, int, int]:
        """Return what changes when messages were stored, or when the database was replaced.

        It costs two calls of `stat`, so an event loop may call this many times a second. The WAL
        would not do: it changes before its commit can be seen, and its time has steps of 4 ms.
        """
        with suppress(OSError):
            file = self.path.stat()
            return file.st_dev, file.st_ino, self._lock_path.stat().st_mtime_ns
        return 0, 0, 0

    def note_arrival(self) -> None:
        """Change what `arrivals` returns, in every process, when a commit can be seen."""
        now = time.time_ns()
        with suppress(OSError):  # the disk became read-only; who waits looks again later
            os.utime(self._lock_path, ns=(now, now))

    def identity(self) -> FileIdentity:
        """Return which file is at `path` now.

        An empty one does not count: SQLite would delete its WAL.

        Raises:
            Unavailable: there is none.
        """
        try:
            status = self.path.stat()
        except OSError as error:
            raise Unavailable(f"database: {error.strerror}") from None
        if not stat.S_ISREG(status.st_mode):
            raise Unavailable("database: not a regular file")
        if status.st_size == 0:
            raise Unavailable("database: file is not a database, it is empty")
        return FileIdentity(status.st_dev, status.st_ino)

    def acquire_reader(self) -> Connection:
        """Return a read-only connection, which only the caller may use until its release."""
        with suppress(Unavailable):  # perhaps the file is being replaced
            if reader := self._idle_reader(self.identity()):
                return reader
        try:
            # A standby waits for the names below; what was killed, the next `follow` completes.
            if not self.is_standby and files.is_replacement_interrupted(self.path):
                with self.write_lock(_TIMEOUT_S) as lock:
                    self.complete_replacement(lock)
            with self.files_locked(exclusive=False):
                identity = self.identity()
                reader = connect(self.path, "ro", timeout_s=_TIMEOUT_S, factory=self._factory)
        except OSError as error:
            raise Unavailable(f"database: {error.strerror}") from None
        reader.identity = identity
        return reader

    def _idle_reader(self, identity: FileIdentity) -> Connection | None:
        """Acquire the reader of that file that was used last: it has the most in its cache."""
        with self._mutex:
            for at in reversed(range(len(self._idle))):
                if self._idle[at].identity == identity:
                    self._idle[at].acquired = True
                    return self._idle.pop(at)
        return None

    def release_reader(self, reader: Connection, *, reusable: bool = True) -> None:
        """Take back a connection from `acquire_reader`, even in the middle of a transaction.

        One that is not `reusable`, or not needed, is closed.

        Raises:
            MisuseError: it was released before; somebody else may use it by now.
        """
        with self._mutex:
            if not reader.acquired:
                raise MisuseError("a connection was released that was not acquired")
            reader.acquired = False
        with suppress(sqlite3.Error):
            if reader.in_transaction:
                reader.rollback()
            with self._mutex:
                if reusable and len(self._idle) < _MAX_IDLE_READERS:
                    self._idle.append(reader)
                    return
        reader.close()

    def close(self, *, but: FileIdentity | None = None) -> None:
        """Close the idle readers, `but` not those of one file.

        Readers of a file that was replaced would keep its disk space.
        """
        with self._mutex:
            others = [reader for reader in self._idle if reader.identity != but]
            self._idle = [reader for reader in self._idle if reader.identity == but]
        for reader in others:
            reader.close()

    @contextmanager
    def reader(self) -> Iterator[Connection]:
        """Acquire a reader for a `with` block; after an error it is closed, not used again."""
        reader = self.acquire_reader()
        reusable = True
        try:
            yield reader
        except Exception:
            reusable = False
            raise
        finally:
            self.release_reader(reader, reusable=reusable)

    def sizes(self) -> dict[str, int]:
        """Return the bytes of the database file and of its WAL; 0 for a missing one."""
        return {"database": _size(self.path), "wal": self.wal_bytes()}

    def wal_bytes(self) -> int:
        """Return the bytes of its write-ahead log (WAL); 0 if there is none."""
        return _size(self.wal_path)

    def free_bytes(self) -> int:
        """Return how many bytes are free on its disk."""
        try:
            return files.free_bytes(self.path.parent)
        except OSError as error:
            raise Unavailable(f"database: {error.strerror}") from None


def _size(path: Path) -> int:
    with suppress(FileNotFoundError):
        return path.stat().st_size
    return 0
