"""Connections to the database file; each knows on which file it was opened."""

import os
import sqlite3
import stat
import sys
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from webhook_api.errors import Unavailable
from webhook_api.store.lending import CheckedUse


class FileIdentity(NamedTuple):
    """Which file a path names: after the file is replaced or its disk remounted, another one."""

    device: int
    inode: int


def identity_of(path: Path) -> FileIdentity:
    """Return which file is at `path` now.

    Raises:
        Unavailable: there is none, or an empty one. SQLite would delete the WAL beside that.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise Unavailable(f"database: {error.strerror}") from None
    if not stat.S_ISREG(status.st_mode):
        raise Unavailable("database: not a regular file")
    if status.st_size == 0:
        raise Unavailable("database: file is not a database, it is empty")
    return FileIdentity(status.st_dev, status.st_ino)


class Connection(sqlite3.Connection):
    """A connection that knows on which file it was opened, and whether it is lent to somebody."""

    identity: FileIdentity
    lent = True


class CheckedConnection(CheckedUse, Connection):
    """A connection that raises LendingError if two threads use it at once."""


def connect(
    path: Path, mode: str, *, patience_s: float, factory: type[Connection] = Connection
) -> Connection:
    """Open the file at `path`; only the mode `rwc` creates it.

    With `synchronous = FULL` a commit returns when the WAL is on disk; with NORMAL, the default
    of some builds, it does not (sqlite.org/pragma.html#pragma_synchronous). Setting it also makes
    SQLite read, so that the WAL and the WAL index are open when this returns.

    Raises:
        sqlite3.Error: it cannot be opened or read.
    """
    connection = sqlite3.connect(
        f"file:{quote(str(path))}?mode={mode}",
        uri=True,
        timeout=patience_s,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=256,
        factory=factory,
    )
    try:
        connection.execute("PRAGMA synchronous = FULL")
        if mode == "ro":
            distrust_schema(connection)
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def distrust_schema(connection: Connection) -> None:
    """Let a schema that somebody else made call no function that does more than calculate.

    Not on connections that remove messages: for older versions of SQLite, FTS5 in our own triggers
    is such a function.
    """
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute("PRAGMA cell_size_check = ON")
    if sys.version_info >= (3, 12):
        connection.setconfig(sqlite3.SQLITE_DBCONFIG_DEFENSIVE, True)


def sync_folder(folder: Path) -> None:
    """Put the names of the files in `folder` on disk (fsync(2))."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
