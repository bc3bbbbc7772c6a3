"""What the thread that writes does by itself from time to time."""

import logging
import sqlite3
import time
from collections.abc import Generator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from math import inf

from webhook_api.errors import SchemaError, Unavailable
from webhook_api.maintenance.removal import PAUSE, Remover, removal_lock
from webhook_api.store.connections import FileIdentity
from webhook_api.store.database import Database
from webhook_api.store.messages import older_than
from webhook_api.store.writer import Writer
from webhook_api.timestamps import as_text

logger = logging.getLogger(__name__)

_EVERY_S = 600.0  # from pass to pass; after a removal, remembered counts must be made again
_MIN_PAUSE_S = 0.01
_SCAN_ROWS = 256  # messages; if none of these is old, or from the future, the pass ends
_POLL_EVERY_S = 1.0


class Retention:
    """Removes messages that are older than `days`, a few at a time between deliveries; 0 keeps all.

    Of several processes, one at a time makes a pass over the old messages.
    """

    def __init__(
        self, database: Database, writer: Writer, *, days: int, every_s: float = _EVERY_S
    ) -> None:
        self._database = database
        self._writer = writer
        self._remover = Remover(writer, timeout_s=0)
        self._days = days
        self._every_s = every_s
        self._next = 0.0 if days else inf  # on the monotonic clock
        self._pass: Generator[None] | None = None  # holds the right to remove

    def wait_s(self) -> float:
        """Return the seconds until the next step; infinite if there is none."""
        return max(0.0, self._next - time.monotonic())

    def step_if_due(self) -> None:
        """Remove a few messages, if it is time. A failure is logged; it tries again later."""
        if self.wait_s() > 0:
            return
        pause_s = self._every_s
        self._pass = self._pass or self._remove_old()
        try:
            next(self._pass)
            pause_s = max(_MIN_PAUSE_S, PAUSE * self._remover.took_s)
        except (StopIteration, BlockingIOError):  # it is done, or another process does it
            self._pass = None
        except (sqlite3.Error, OSError, Unavailable, SchemaError) as error:
            self._pass = None
            logger.warning("removal of old messages failed: %s", error)
        self._next = time.monotonic() + pause_s

    def _remove_old(self) -> Generator[None]:
        """Remove what is too old now, the oldest first; pause after each step, for deliveries."""
        now = datetime.now(UTC)
        selection = older_than(now - timedelta(days=self._days))
        (moment,) = selection.parameters
        with removal_lock(self._database):
            while self._remover.remove_letters(selection):
                yield
            last_id = 0
            while rows := self._rows_after(last_id):
                old = [row_id for row_id, created_at in rows if created_at < moment]
                if batch := old[: self._remover.size]:
                    self._remover.remove(batch, selection)
                    last_id = batch[-1]
                elif all(created_at > as_text(now) for _, created_at in rows):
                    # They came while the clock was wrong: older ones may follow.
                    last_id = rows[-1][0]
                else:
                    return
                yield

    def _rows_after(self, row_id: int) -> list[tuple[int, str]]:
        sql = "SELECT id, created_at FROM messages WHERE id > ? ORDER BY id LIMIT ?"
        return self._writer.write(
            lambda db: db.execute(sql, [row_id, _SCAN_ROWS]).fetchall(), timeout_s=0
        )

    def close(self) -> None:
        """End the pass; the next one begins at the oldest message."""
        if self._pass:
            self._pass.close()
            self._pass = None


class BackgroundTasks:
    """Removes old messages, and closes what is open of a file that was replaced."""

    def __init__(
        self,
        database: Database,
        writer: Writer,
        *,
        retention_days: int,
        poll_every_s: float = _POLL_EVERY_S,
    ) -> None:
        self._database = database
        self._writer = writer
        self._retention = Retention(database, writer, days=retention_days)
        self._poll_every_s = poll_every_s
        self._open: FileIdentity | None = None  # the file that the writer was told to open last
        self._next_poll = 0.0

    def wait_s(self) -> float:
        """Return the seconds until there may be something to do."""
        return min(max(0.0, self._next_poll - time.monotonic()), self._retention.wait_s())

    def run_due_tasks(self) -> None:
        """Do what it is time for. What fails is tried again later."""
        if time.monotonic() >= self._next_poll:
            with suppress(sqlite3.Error, OSError, Unavailable, SchemaError):
                self._close_replaced()
            self._next_poll = time.monotonic() + self._poll_every_s
        self._retention.step_if_due()

    def _close_replaced(self) -> None:
        """Close what is still open of a file that was replaced.

        As long as it is open, it keeps its disk space, and the messages that were removed. If the
        path has no file, nothing is closed: perhaps only the open file still has the messages.
        """
        identity = self._database.identity()
        self._database.close(but=identity)
        if self._open != identity:
            # It changes to the file at the path.
            self._writer.write(lambda _connection: None, timeout_s=0)
            self._open = identity

    def close(self) -> None:
        """End the removal of old messages."""
        self._retention.close()
