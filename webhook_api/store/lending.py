"""Checks that a lent connection is used by one thread at a time, and not after its return.

With either fault SQLite crashes much later, somewhere else. The checks cost a few microseconds
for each call, so only tests and Python's development mode have them.
"""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self


class LendingError(Exception):
    """A connection was used by two threads at once, or after its return: a bug of ours.

    It is not a `sqlite3.Error`, because the database is not at fault.
    """


class CheckedCursor(sqlite3.Cursor):
    """A cursor that makes these checks."""

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
    """A base class for connections that make these checks."""

    lent: bool

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._in_use = threading.Lock()

    def cursor(self, factory: Any = CheckedCursor) -> Any:
        return super().cursor(factory)

    def execute(self, *args: Any) -> Any:
        # The original does not call `cursor` (CPython 3.11).
        return self.cursor().execute(*args)

    def executemany(self, *args: Any) -> Any:
        return self.cursor().executemany(*args)

    @contextmanager
    def use(self) -> Iterator[None]:
        """Check that nobody else uses the connection during a `with` block.

        Raises:
            LendingError: another thread uses it now, or it is not lent.
        """
        if not self.lent:
            raise LendingError("a connection was used after its return")
        if not self._in_use.acquire(blocking=False):
            raise LendingError("a connection was used by two threads at once")
        try:
            yield
        finally:
            self._in_use.release()
