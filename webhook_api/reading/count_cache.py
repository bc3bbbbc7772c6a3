"""Remembered counts of searches: for a repeated search only newer messages are counted."""

import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import NamedTuple


class _State(NamedTuple):
    """Identifies the rows of the table up to one row: equal states mean equal rows.

    Rows never change and ids only grow, until a backup is restored. After that an id may be used
    again, but not with the same `message_id` in the same millisecond. `last_deletion` is a random
    number, a new one for each removal.
    """

    last_deletion: int
    row_id: int
    message_id: str
    created_at: str


class _Count(NamedTuple):
    state: _State
    messages: int


class CountCache:
    """Counts of searches by their key. Safe to use from several threads."""

    def __init__(self, size: int = 512) -> None:
        self._size = size
        self._counts: OrderedDict[Hashable, _Count] = OrderedDict()
        self._lock = threading.Lock()

    def count(
        self, key: Hashable, db: sqlite3.Connection, count_after: Callable[[int], int]
    ) -> int:
        """Return how many rows match the search `key`, in the snapshot that `db` reads.

        `count_after(id)` counts the matching rows above `id` in this snapshot.
        """
        newest = _state(db, None)
        if newest is None:
            return 0
        with self._lock:
            known = self._counts.get(key)
        if known and known.state == _state(db, known.state.row_id):
            total = known.messages + count_after(known.state.row_id)
        else:
            total = count_after(0)
        with self._lock:
            self._counts[key] = _Count(newest, total)
            self._counts.move_to_end(key)
            if len(self._counts) > self._size:
                self._counts.popitem(last=False)
        return total


def _state(db: sqlite3.Connection, row_id: int | None) -> _State | None:
    """Return the state up to the row `row_id`, by default the newest; None if there is no row."""
    row = db.execute(
        "SELECT last_deletion, id, message_id, created_at FROM messages, totals"
        " WHERE id = coalesce(?, (SELECT max(id) FROM messages))",
        [row_id],
    ).fetchone()
    return _State(*row) if row else None
