"""Connections to the database file, and which file it is that they were opened on."""

import os
import sqlite3
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from webhook_api.store.leases import CheckedUse


class FileIdentity(NamedTuple):
    """Which file a path names: another one after a restore, or when a volume was remounted."""

    device: int
    inode: int


class Connection(sqlite3.Connection):
    """A connection that remembers which file it was opened on, and whether somebody has it."""

    identity: FileIdentity
    lent = True


class CheckedConnection(CheckedUse, Connection):
    """A connection that fails loudly when it is not used by one at a time."""


def connect(
    path: Path, mode: str, *, patience_s: float, factory: type[Connection] = Connection
) -> Connection:
    """Open the file at `path`; only mode `rwc` creates it.

    `synchronous = FULL` makes a commit return after the WAL is on disk, which the NORMAL that
    some builds default to does not (sqlite.org/pragma.html#pragma_synchronous). It also makes
    SQLite read, so that the WAL and its index are open when this returns.
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
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def sync_folder(folder: Path) -> None:
    """Put the names of the files in `folder` on disk (fsync(2))."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
