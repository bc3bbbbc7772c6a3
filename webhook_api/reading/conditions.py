"""Which messages a request asks for, as conditions in SQL; in which order; and how many there are.

What a phrase adds to this is in `search.py`.
"""

import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import NamedTuple

from webhook_api.models import AddressFilter, CommonFilter, Cursor, MessageFilter
from webhook_api.store.connections import Connection
from webhook_api.store.counting import Totals, count_before
from webhook_api.timestamps import Instant

# Before and after every message; each is the start of a period of `sender_periods`.
FIRST, LAST = Instant(-(2**60), 0), Instant(2**60, 0)
Window = tuple[Instant, Instant]  # from the first, up to but not including the second


@dataclass(frozen=True)
class Conditions:
    """A WHERE clause on the rows `m` of messages: conditions joined by AND, their parameters."""

    terms: tuple[str, ...] = ()
    parameters: tuple[object, ...] = ()

    def also(self, term: str, *parameters: object) -> "Conditions":
        """Return these conditions and one more."""
        return Conditions((*self.terms, term), (*self.parameters, *parameters))

    def in_window(self, since: Instant | None, until: Instant | None) -> "Conditions":
        """Return these conditions, for rows at or after `since` and before `until` only."""
        found = self
        if since is not None:
            found = found.also("(m.seconds, m.nanos) >= (?, ?)", *since)
        if until is not None:
            found = found.also("(m.seconds, m.nanos) < (?, ?)", *until)
        return found

    def __and__(self, other: "Conditions") -> "Conditions":
        return Conditions(self.terms + other.terms, self.parameters + other.parameters)

    @property
    def sql(self) -> str:
        """What follows WHERE; its parameters are `parameters`."""
        return " AND ".join(self.terms) or "TRUE"


class Position(NamedTuple):
    """The values of a row that order it among all others."""

    instant: Instant
    message_id: str
    id: int


def load_position(db: Connection, cursor: Cursor) -> Position:
    """Return the position of the row of `cursor`.

    If the row was removed, its `message_id` is not known: other messages of its instant may
    then come twice, but none is left out.
    """
    row = db.execute("SELECT message_id FROM messages WHERE id = ?", [cursor.id]).fetchone()
    return Position(cursor.instant, row[0] if row else "", cursor.id)


@dataclass(frozen=True)
class Order:
    """An order of the rows `m`."""

    columns: tuple[str, ...] = ("m.seconds", "m.nanos", "m.message_id")
    newest_first: bool = False

    @property
    def sql(self) -> str:
        """What follows ORDER BY."""
        return ", ".join(f"{one} DESC" if self.newest_first else one for one in self.columns)

    def after(self, position: Position) -> Conditions:
        """Return the condition on the rows after `position`."""
        sign = "<" if self.newest_first else ">"
        instant, message_id, row_id = position
        values = [*instant, message_id] if len(self.columns) > 1 else [row_id]
        marks = ", ".join("?" * len(values))
        return Conditions().also(f"({', '.join(self.columns)}) {sign} ({marks})", *values)


OLDEST_FIRST = Order()


def conditions_of(
    wanted: CommonFilter, after: Position | None = None, order: Order = OLDEST_FIRST
) -> Conditions:
    """Return all conditions of `wanted`, except that of `q`, which is `Phrase.conditions`.

    With `after`, only the rows after that position in `order`.
    """
    return conditions_by_index(wanted, after, order) & conditions_by_row(wanted)


def conditions_by_index(
    wanted: CommonFilter, after: Position | None, order: Order = OLDEST_FIRST
) -> Conditions:
    """Return those of the conditions by which an index finds rows."""
    found = equalities(wanted, "message_id", "from_msisdn")
    since = wanted.since.instant if wanted.since else None
    if after is not None:
        found &= order.after(after)
        if since is not None and order == OLDEST_FIRST and after.instant >= since:
            since = None  # of two lower bounds, SQLite might start at the lower one
    return found.in_window(since, wanted.until.instant if wanted.until else None)


def conditions_by_row(wanted: CommonFilter) -> Conditions:
    """Return the conditions for which each row must be read."""
    return equalities(wanted, *wanted.by_row)


def equalities(wanted: AddressFilter, *columns: str) -> Conditions:
    """Return the conditions on those of `columns` for which `wanted` has a value."""
    found = Conditions()
    for column in columns:
        if (value := vars(wanted).get(column)) is not None:
            found = found.also(f"m.{column} = ?", value)
    return found


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


class CountCache:
    """Remembered counts by their key: for a repeated one only newer messages are counted.

    Safe to use from several threads.
    """

    def __init__(self, size: int = 512) -> None:
        self._size = size
        self._counts: OrderedDict[Hashable, tuple[_State, int]] = OrderedDict()
        self._lock = threading.Lock()

    def count(
        self, key: Hashable, db: sqlite3.Connection, count_after: Callable[[int], int]
    ) -> int:
        """Return how many rows match what `key` stands for, in the snapshot that `db` reads.

        `count_after(id)` counts the matching rows above `id` in this snapshot.
        """
        newest = _state(db, None)
        if newest is None:
            return 0
        with self._lock:
            state, total = self._counts.get(key, (None, 0))
        if state and state == _state(db, state.row_id):
            total += count_after(state.row_id)
        else:
            total = count_after(0)
        with self._lock:
            self._counts[key] = newest, total
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


def count_takes_long(wanted: CommonFilter) -> bool:
    """Whether the cost of `count_messages` grows with the data: no counter has it."""
    in_time = wanted.since is not None or wanted.until is not None
    return wanted.reads_all or (wanted.from_msisdn is not None and in_time)


def count_messages(
    db: Connection, wanted: MessageFilter, matching: Conditions, totals: Totals, counts: CountCache
) -> int:
    """Return how many messages match, `q` ignored; `matching` are the conditions of `wanted`."""
    if wanted.message_id is None and wanted.reads_all:

        def count_after(row_id: int) -> int:
            return count_rows(db, matching, row_id, by_id=row_id > 0)

        return counts.count((db.identity, matching), db, count_after)
    if wanted.message_id is not None or count_takes_long(wanted):
        return count_rows(db, matching)
    if wanted.from_msisdn is not None:
        row = db.execute(
            "SELECT messages FROM senders WHERE from_msisdn = ?", [wanted.from_msisdn]
        ).fetchone()
        return int(row[0]) if row else 0
    return count_between(db, window_of(wanted), totals)


def window_of(wanted: CommonFilter) -> Window:
    """Return the times that `since` and `until` say."""
    return (
        wanted.since.instant if wanted.since else FIRST,
        wanted.until.instant if wanted.until else LAST,
    )


def count_between(db: Connection, window: Window, totals: Totals) -> int:
    """Return how many messages there are in `window`; 0 if it ends before it starts."""
    since, until = window
    if since >= until:
        return 0
    earlier = 0 if since == FIRST else count_before(db, since)
    return (totals.messages if until == LAST else count_before(db, until)) - earlier


def count_rows(
    db: Connection, conditions: Conditions, above: int = 0, *, by_id: bool = False
) -> int:
    """Return how many rows above an id match. `by_id`: they are few, and are found by their id."""
    if above:
        conditions = conditions.also("m.id > ?", above)
    index = "NOT INDEXED" if by_id else ""
    row = db.execute(
        f"SELECT count(*) FROM messages m {index} WHERE {conditions.sql}", conditions.parameters
    ).fetchone()
    return int(row[0])
