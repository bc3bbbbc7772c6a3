"""Transactions as `with` blocks. Our connections never begin a transaction by themselves."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from webhook_api.store.lock import LockedConnection


@contextmanager
def transaction(db: LockedConnection) -> Iterator[None]:
    """Commit all that a `with` block writes, or nothing.

    Raises:
        sqlite3.Error: nothing was written.
    """
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    finally:
        _roll_back(db)


@contextmanager
def read_transaction(db: sqlite3.Connection) -> Iterator[None]:
    """Make the reads of a `with` block see one state of the database: that of its start.

    Raises:
        sqlite3.Error: it cannot be read.
    """
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
