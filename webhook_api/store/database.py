"""The database file: its schema, its state on disk, its room, and the readers of it."""

import os
import sqlite3
import stat
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from pathlib import Path

from webhook_api.errors import Unavailable
from webhook_api.store.connections import (
    CheckedConnection,
    Connection,
    FileIdentity,
    connect,
    sync_folder,
)
from webhook_api.store.leases import LeaseError
from webhook_api.store.lock import WriteLock, hold, hold_folder
from webhook_api.store.schema import migrate
from webhook_api.store.swapping import (
    is_half_done,
    put_in_place,
    restored_path,
    set_leftovers_aside,
)

_IDLE_READERS = 16
_PATIENCE_S = 5.0  # how long SQLite itself waits, where we do not
_REWRITE_BYTES = 1024 * 1024
_MIN_FREE_BYTES = 256 * 1024


class Database:
    """The file at `path`. Holds no connection until it is asked for one, so it survives a fork.

    With `check_leases`, its readers fail loudly when they are not used as they should be.
    """

    def __init__(self, path: Path, *, check_leases: bool = False) -> None:
        self.path = path.absolute()
        self._lock_path = self.path.with_name(self.path.name + ".lock")
        self._factory = CheckedConnection if check_leases else Connection
        self._pool = threading.Lock()  # guards the next one, and `lent` of each reader
        self._idle: list[Connection] = []

    def prepare(self, *, create: bool = False) -> None:
        """Bring the file's schema up to date; if there is no file, make one only with `create`.

        A service that already runs must not start again with an empty file because a volume is
        away, so only its first start and the command `init-db` create the file.

        Raises:
            SchemaError: the file is not ours, or newer than this code; it is left as it is.
            sqlite3.Error, OSError: it cannot be opened or written.
        """
        if create:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.write_lock(_PATIENCE_S) as lock:
            self.finish_restore()
            # Of a restore that was killed before it moved the old file away: that one counts.
            restored_path(self.path).unlink(missing_ok=True)
            if create:
                set_leftovers_aside(self.path)
            created = not self.path.exists()
            # Before SQLite reads it: closing would put pages of it into the database file.
            self.make_wal_durable(lock)
            with closing(
                connect(self.path, "rwc" if create else "rw", patience_s=_PATIENCE_S)
            ) as connection:
                migrate(connection)
            if created:
                # The file's name is on disk only when its folder is (fsync(2)).
                for folder in (self.path.parent, self.path.parent.parent):
                    sync_folder(folder)

    def make_wal_durable(self, lock: WriteLock) -> None:
        """Put all that the write-ahead log shows on disk, whoever wrote it, and end the doubt.

        Its writer may have been killed before the sync: a sync puts that right. Or a sync has
        failed: the kernel then takes the pages for written, shows them, and no later sync writes
        them (PostgreSQL wiki, "Fsync Errors"). So all of it is written again, as it is shown.

        Raises:
            OSError: it could not be written.
        """
        with suppress(FileNotFoundError), self.wal_path.open("r+b", buffering=0) as wal:
            at = 0
            while lock.in_doubt and (shown := os.pread(wal.fileno(), _REWRITE_BYTES, at)):
                at += os.pwrite(wal.fileno(), shown, at)
            os.fdatasync(wal)
        if lock.in_doubt:
            lock.mark_in_doubt(False)

    def finish_restore(self) -> None:
        """Finish a restore that was killed when it had moved the old file away.

        The caller holds the write lock.

        Raises:
            OSError: the folder cannot be written.
        """
        if is_half_done(self.path):
            with self.files_locked(exclusive=True):
                put_in_place(self.path)

    def files_locked(self, *, exclusive: bool) -> AbstractContextManager[None]:
        """Return a context in which all files of the database are of one database.

        SQLite opens the file, the WAL and its index by name, one after the other: a restore in
        between would give it some of both databases.
        """
        return hold_folder(self.path.parent, exclusive=exclusive, patience_s=_PATIENCE_S)

    def write_lock(self, patience_s: float | None = None) -> AbstractContextManager[WriteLock]:
        """Return a context that holds the right to write (see `lock.hold`)."""
        return hold(self._lock_path, patience_s)

    def identity(self) -> FileIdentity:
        """Return which file is at `path` now.

        Raises:
            Unavailable: there is none.
        """
        try:
            status = self.path.stat()
        except OSError as error:
            raise Unavailable(f"database: {error.strerror}") from None
        if not stat.S_ISREG(status.st_mode):
            raise Unavailable("database: not a regular file")
        return FileIdentity(status.st_dev, status.st_ino)

    def check_room(self) -> None:
        """Return when the disk has room for more than what is being written now.

        Raises:
            Unavailable: it is full, or the folder is gone.
        """
        free = self.free_bytes()
        if free < _MIN_FREE_BYTES:
            raise Unavailable(f"database: the disk is full, {free} bytes are free")

    def lend_reader(self) -> Connection:
        """Return a read-only connection of which the caller is the only user, until its return.

        Raises:
            Unavailable: there is no file.
            sqlite3.Error: it cannot be read.
        """
        with suppress(Unavailable):  # it may be away for the moment that a restore takes
            identity = self.identity()
            while reader := self._take_idle():
                if reader.identity == identity:
                    return reader
                reader.close()
        try:
            if is_half_done(self.path):
                with self.write_lock(_PATIENCE_S):
                    self.finish_restore()
            with self.files_locked(exclusive=False):
                identity = self.identity()
                reader = connect(self.path, "ro", patience_s=_PATIENCE_S, factory=self._factory)
        except OSError as error:
            raise Unavailable(f"database: {error.strerror}") from None
        reader.identity = identity
        return reader

    def _take_idle(self) -> Connection | None:
        with self._pool:
            if not self._idle:
                return None
            reader = self._idle.pop()
            reader.lent = True
            return reader

    def return_reader(self, reader: Connection, *, reusable: bool = True) -> None:
        """Take back what `lend_reader` gave, in whatever state its user left it.

        Raises:
            LeaseError: it is not lent, so that somebody else may have it by now.
        """
        with self._pool:
            if not reader.lent:
                raise LeaseError("a connection was returned that is not lent")
            reader.lent = False
        with suppress(sqlite3.Error):
            if reader.in_transaction:
                reader.rollback()
            with self._pool:
                if reusable and len(self._idle) < _IDLE_READERS:
                    self._idle.append(reader)
                    return
        reader.close()

    @contextmanager
    def reader(self) -> Iterator[Connection]:
        """Lend a reader for the length of a `with` block; after an error it is not lent again."""
        reader = self.lend_reader()
        reusable = False
        try:
            yield reader
            reusable = True
        finally:
            self.return_reader(reader, reusable=reusable)

    @property
    def wal_path(self) -> Path:
        """The write-ahead log, which SQLite keeps beside the file."""
        return self.path.with_name(self.path.name + "-wal")

    def sizes(self) -> dict[str, int]:
        """Return the bytes of the database file and of its WAL, 0 for one that is not there."""
        files = {"database": self.path, "wal": self.wal_path}
        return {name: file.stat().st_size if file.exists() else 0 for name, file in files.items()}

    def free_bytes(self) -> int:
        """Return how many bytes its disk has room for.

        Raises:
            Unavailable: the folder is gone.
        """
        try:
            disk = os.statvfs(self.path.parent)
        except OSError as error:
            raise Unavailable(f"database: {error.strerror}") from None
        return disk.f_bavail * disk.f_frsize

    def close(self) -> None:
        """Close the readers that are not lent."""
        while self._idle:
            self._idle.pop().close()
