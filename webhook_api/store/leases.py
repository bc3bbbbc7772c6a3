"""Leases, checked: a connection that fails loudly when it has two users, or one after its return.

SQLite's own answer to either is a crash, much later and somewhere else. The checks cost a few
microseconds for each call, so only tests and Python's development mode have them.
"""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self


class LeaseError(Exception):
    """A connection was used by two threads at once, or after its return: a fault of ours.

    No `sqlite3.Error`, so that nothing takes it for a fault of the database.
    """


class CheckedCursor(sqlite3.Cursor):
    """A cursor that uses its connection within `CheckedUse.use` only."""

    connection: "CheckedUse"

    def execute(self, *args: Any) -> Self:
        with self.connection.use():
            return super().execute(*args)

    def executemany(self, *args: Any) -> Self:
        with self.connection.use():
            return super().executemany(*args)

    def fetchone(self) -> Any:
        with self.connection.use():
            return super().fetchone()

    def fetchmany(self, *args: Any, **kwargs: Any) -> list[Any]:
        with self.connection.use():
            return super().fetchmany(*args, **kwargs)

    def fetchall(self) -> list[Any]:
        with self.connection.use():
            return super().fetchall()

    def __next__(self) -> Any:
        with self.connection.use():
            return super().__next__()


class CheckedUse(sqlite3.Connection):
    """The checks of a connection, for a subclass to add."""

    lent: bool

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._in_use = threading.Lock()

    def cursor(self, factory: Any = CheckedCursor) -> Any:
        return super().cursor(factory)

    def execute(self, *args: Any) -> Any:
        # The original makes a cursor of its own, whatever `cursor` returns (CPython 3.11).
        return self.cursor().execute(*args)

    def executemany(self, *args: Any) -> Any:
        return self.cursor().executemany(*args)

    @contextmanager
    def use(self) -> Iterator[None]:
        """Use the connection alone for the length of a `with` block.

        Raises:
            LeaseError: another uses it now, or it is not lent.
        """
        if not self.lent:
            raise LeaseError("a connection was used after its return")
        if not self._in_use.acquire(blocking=False):
            raise LeaseError("a connection was used by two threads at once")
        try:
            yield
        finally:
            self._in_use.release()
