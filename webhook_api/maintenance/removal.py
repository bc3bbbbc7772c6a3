"""Removes messages, a few in each transaction, and leaves a tombstone of each."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import TypeVar

from webhook_api.store.copies import Progress
from webhook_api.store.database import Database
from webhook_api.store.dead_letters import remove_dead_letters, select_dead_letters
from webhook_api.store.files import REMOVAL_LOCK, beside
from webhook_api.store.lock import LockedConnection, hold
from webhook_api.store.messages import Selection
from webhook_api.store.schema import check_schema
from webhook_api.store.writer import Writer

_SCAN_IDS = 10_000  # in one read transaction
_FIRST_BATCH = 16  # messages
_LETTERS = 8  # dead letters, which may have megabytes
_SMALLEST_BATCH = 8  # even on a busy machine, or it would never end
_BATCH_S = 0.006  # how long a batch should take: deliveries wait for it
LOCKED_TIMEOUT_S = 10.0  # for a program that locks the database without our write lock
PAUSE = 20  # times what a batch and its checkpoint took: deliveries are stored in the pause

T = TypeVar("T")


def removal_lock(database: Database) -> AbstractContextManager[object]:
    """Return a context that keeps others from removing messages; if one does, BlockingIOError."""
    lock = beside(database.path, REMOVAL_LOCK)
    return hold(lock, 0, held="another process is removing messages")


def find(database: Database, selection: Selection, progress: Progress) -> Iterator[list[int]]:
    """Yield the ids of the rows that `selection` selects, oldest first, for a part of the table.

    Each part is a read transaction of its own, so that checkpoints go on. New messages are not
    searched. The progress is that of the ids.
    """
    with database.reader() as db:
        check_schema(db)
        first, last = db.execute(
            "SELECT coalesce(min(id), 1), coalesce(max(id), 0) FROM messages"
        ).fetchone()
    for start in range(first, last + 1, _SCAN_IDS):
        end = min(start + _SCAN_IDS, last + 1)
        with database.reader() as db:
            rows = db.execute(
                "SELECT id FROM messages WHERE id >= ? AND id < ?"
                f" AND ({selection.condition}) ORDER BY id",
                [start, end, *selection.parameters],
            ).fetchall()
        yield [row_id for (row_id,) in rows]
        progress(end - first, last + 1 - first)


class Remover:
    """Removes rows in batches, each so small that deliveries hardly wait for it.

    It waits `timeout_s` for a program that locks the database without our write lock.
    """

    def __init__(self, writer: Writer, *, timeout_s: float = LOCKED_TIMEOUT_S) -> None:
        self._writer = writer
        self._timeout_s = timeout_s
        self.size = _FIRST_BATCH  # rows that the next batch should have
        self.took_s = 0.0  # how long deliveries waited for the last one
        self.removed = 0  # messages, in all batches
        self.removed_letters = 0

    def batches(self, row_ids: Sequence[int]) -> Iterator[Sequence[int]]:
        """Yield `row_ids` in batches for `remove`, and pause between them for deliveries."""
        at = 0
        while batch := row_ids[at : at + self.size]:
            at += len(batch)
            yield batch
            time.sleep(PAUSE * self.took_s)

    def remove_letters(self, selection: Selection) -> bool:
        """Remove a few of the selected dead letters; return whether there were any."""

        def remove_some(connection: LockedConnection) -> int:
            numbers = select_dead_letters(connection, selection, _LETTERS)
            return remove_dead_letters(connection, numbers) if numbers else 0

        self.took_s = 0.0
        count = self._write(remove_some)
        self.removed_letters += count
        return count > 0

    def remove(self, batch: Sequence[int], selection: Selection) -> None:
        """Remove those rows of `batch` that `selection` selects (see `Writer.remove`).

        If the database was replaced, they may be other rows than those found.

        Raises:
            Unavailable, SchemaError, sqlite3.Error, OSError: none was removed; or all were, as
                `removed` shows, and the upkeep after it failed.
        """
        self.took_s = 0.0
        self.removed += self._write(lambda db: self._writer.remove(db, batch, selection))
        # Not more than twice as many: a single quick batch may be an exception.
        fitting = int(_BATCH_S * len(batch) / self.took_s)
        self._write(self._writer.index_and_checkpoint)
        self.size = max(_SMALLEST_BATCH, min(2 * self.size, fitting))

    def _write(self, work: Callable[[LockedConnection], T]) -> T:
        """Call `work` under the write lock; add to `took_s` how long others waited for it."""

        def timed(connection: LockedConnection) -> T:
            started = time.perf_counter()
            try:
                return work(connection)
            finally:
                self.took_s += time.perf_counter() - started

        return self._writer.write(timed, timeout_s=self._timeout_s)
