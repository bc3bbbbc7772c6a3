"""Connections to the database file: opening them, and what their errors mean.

Each knows on which file it was opened. Only one thread at a time may use it, and nobody may use it
after its release. Otherwise SQLite crashes much later, somewhere else. A check of this takes a few
microseconds for each call, so only tests and Python's development mode have it.
"""

import sqlite3
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

# A value that cannot be stored. Every other error is a fault of the file or the disk.
FAULTS_OF_A_ROW = (
    sqlite3.IntegrityError,
    sqlite3.DataError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
    ValueError,
    OverflowError,
)


class MisuseError(Exception):
    """A connection was used by two threads at once, or after its release: a bug of ours.

    It is not a `sqlite3.Error`, because the database is not at fault.
    """


class FileIdentity(NamedTuple):
    """Which file a path names: after the file is replaced or its disk remounted, another one."""

    device: int
    inode: int


class Connection(sqlite3.Connection):
    """A connection that knows on which file it was opened, and whether somebody has acquired it."""

    identity: FileIdentity
    acquired = True


class CheckedConnection(Connection):
    """A connection that raises MisuseError if two threads use it at once, or after its release."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.in_use = threading.Lock()

    def cursor(self, factory: Any = None) -> Any:
        return super().cursor(factory or CheckedCursor)

    def execute(self, *args: Any) -> Any:
        # The original does not call `cursor` (CPython 3.11).
        return self.cursor().execute(*args)

    def executemany(self, *args: Any) -> Any:
        return self.cursor().executemany(*args)


def _checked(method: Callable[..., Any]) -> Any:
    def checked(cursor: Any, *args: Any, **kwargs: Any) -> Any:
        connection: CheckedConnection = cursor.connection
        if not connection.acquired:
            raise MisuseError("a connection was used after its release")
        if not connection.in_use.acquire(blocking=False):
            raise MisuseError("a connection was used by two threads at once")
        try:
            return method(cursor, *args, **kwargs)
        finally:
            connection.in_use.release()

    return checked


class CheckedCursor(sqlite3.Cursor):
    """A cursor of a CheckedConnection."""

    execute = _checked(sqlite3.Cursor.execute)
    executemany = _checked(sqlite3.Cursor.executemany)
    fetchone = _checked(sqlite3.Cursor.fetchone)
    fetchmany = _checked(sqlite3.Cursor.fetchmany)
    fetchall = _checked(sqlite3.Cursor.fetchall)
    __next__ = _checked(sqlite3.Cursor.__next__)


def connect(
    path: Path, mode: str, *, timeout_s: float, factory: type[Connection] = Connection
) -> Connection:
    """Open the file at `path`; only the mode `rwc` creates it.

    With `synchronous = FULL` a commit returns when the WAL is on disk; with NORMAL, the default
    of some builds, it does not (sqlite.org/pragma.html#pragma_synchronous). Setting it also makes
    SQLite read, so that the WAL and the WAL index are open when this returns.
    """
    connection = sqlite3.connect(
        f"file:{quote(str(path))}?mode={mode}",
        uri=True,
        timeout=timeout_s,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=256,
        factory=factory,
    )
    try:
        connection.execute("PRAGMA synchronous = FULL")
        if mode == "ro":
            # A schema that somebody else made may call no function that does more than calculate.
            # Not where messages are removed: for older versions of SQLite, FTS5 in our own
            # triggers is such a function.
            connection.execute("PRAGMA trusted_schema = OFF")
            connection.execute("PRAGMA cell_size_check = ON")
            if sys.version_info >= (3, 12):
                connection.setconfig(sqlite3.SQLITE_DBCONFIG_DEFENSIVE, True)
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def primary_result_code(error: BaseException) -> int:
    """Return the primary result code of an error, such as `sqlite3.SQLITE_IOERR`.

    0 if SQLite did not report the error. Its errors have extended codes, which say more than we
    need; their lowest eight bits are the primary one (sqlite.org/rescode.html#pve).
    """
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF
