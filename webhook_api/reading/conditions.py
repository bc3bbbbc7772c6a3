"""Which messages a request asks for, as conditions in SQL, and in which order."""

from dataclasses import dataclass
from typing import NamedTuple

from webhook_api.models import AddressFilter, CommonFilter, Cursor
from webhook_api.store.connections import Connection
from webhook_api.timestamps import Instant


@dataclass(frozen=True)
class Conditions:
    """A WHERE clause on the rows `m` of messages: conditions joined by AND, their parameters."""

    terms: tuple[str, ...] = ()
    parameters: tuple[object, ...] = ()

    def also(self, term: str, *parameters: object) -> "Conditions":
        """Return these conditions and one more."""
        return Conditions((*self.terms, term), (*self.parameters, *parameters))

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
    return found & in_window(since, wanted.until.instant if wanted.until else None)


def conditions_by_row(wanted: CommonFilter) -> Conditions:
    """Return the conditions for which each row must be read: no index has their order."""
    return equalities(wanted, "to_msisdn", "provider")


def equalities(wanted: AddressFilter, *columns: str) -> Conditions:
    """Return the conditions on those of `columns` for which `wanted` has a value."""
    found = Conditions()
    for column in columns:
        if (value := getattr(wanted, column, None)) is not None:
            found = found.also(f"m.{column} = ?", value)
    return found


def in_window(since: Instant | None, until: Instant | None) -> Conditions:
    """Return the conditions on rows at or after `since` and before `until`."""
    found = Conditions()
    if since is not None:
        found = found.also("(m.seconds, m.nanos) >= (?, ?)", *since)
    if until is not None:
        found = found.also("(m.seconds, m.nanos) < (?, ?)", *until)
    return found
