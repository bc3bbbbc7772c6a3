"""What the thread that writes does by itself from time to time."""

import sqlite3
import time
from contextlib import suppress

from webhook_api.errors import SchemaError, Unavailable
from webhook_api.maintenance.retention import Retention
from webhook_api.store.connections import Connection, FileIdentity
from webhook_api.store.database import Database
from webhook_api.store.writer import Writer

_LOOK_EVERY_S = 1.0


class Chores:
    """Removes old messages, and closes what is open of a file that was replaced."""

    def __init__(
        self,
        database: Database,
        writer: Writer,
        *,
        retention_days: int,
        look_every_s: float = _LOOK_EVERY_S,
    ) -> None:
        self._database = database
        self._writer = writer
        self._retention = Retention(database, writer, days=retention_days)
        self._look_every_s = look_every_s
        self._open: FileIdentity | None = None  # the file that the writer was told to open last
        self._next_look = 0.0

    def wait_s(self) -> float:
        """Return the seconds until there may be something to do."""
        until_look = max(0.0, self._next_look - time.monotonic())
        until_removal = self._retention.wait_s()
        return until_look if until_removal is None else min(until_look, until_removal)

    def do_due(self) -> None:
        """Do what it is time for. What fails is tried again later."""
        if time.monotonic() >= self._next_look:
            with suppress(sqlite3.Error, OSError, Unavailable, SchemaError):
                self._close_replaced()
            self._next_look = time.monotonic() + self._look_every_s
        self._retention.step_if_due()

    def _close_replaced(self) -> None:
        """Close what is still open of a file that was replaced.

        As long as it is open, it keeps its disk space, and the messages that were removed. If there
        is no file at the path, this closes nothing, because the open file can be the only copy.
        """
        identity = self._database.identity()
        self._database.close_replaced(identity)
        if self._open != identity:
            self._writer.write(_nothing, patience_s=0)  # it changes to the file at the path
            self._open = identity

    def close(self) -> None:
        """End the removal of old messages."""
        self._retention.close()


def _nothing(_connection: Connection) -> None:
    pass
