"""Conditions on rows of messages, and the orders in which they are listed."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from webhook_api.models import CommonFilter, Cursor, MessageFilter
from webhook_api.store.connections import Connection
from webhook_api.timestamps import Instant


class Position(NamedTuple):
    """The values of a row that order it among all others."""

    instant: Instant
    message_id: str
    id: int


def load_position(db: Connection, cursor: Cursor | None) -> Position | None:
    """Return the position of the row of `cursor`; None if there is no cursor.

    If the row was removed, its `message_id` is not known: other messages of its instant may
    then come twice, but none is left out.
    """
    if cursor is None:
        return None
    row = db.execute("SELECT message_id FROM messages WHERE id = ?", [cursor.id]).fetchone()
    return Position(cursor.instant, row[0] if row else "", cursor.id)


@dataclass(frozen=True)
class Order:
    """An order of the rows `m`."""

    columns: tuple[str, ...] = ("m.seconds", "m.nanos", "m.message_id")
    newest_first: bool = False

    @classmethod
    def of_arrival(cls, wanted: MessageFilter, *, newest_first: bool) -> "Order":
        """Return the order in which the rows came in.

        The plus keeps SQLite from reading whole rows in this order, for what an index can say.
        """
        filtered = any(getattr(wanted, name) for name in MessageFilter.model_fields if name != "q")
        return cls(("+m.id" if filtered else "m.id",), newest_first)

    @property
    def sql(self) -> str:
        """What follows ORDER BY."""
        return ", ".join(f"{one} DESC" if self.newest_first else one for one in self.columns)

    def beyond(self, position: Position) -> tuple[str, Sequence[object]]:
        """Return the condition on the rows after `position`, and its parameters."""
        sign = "<" if self.newest_first else ">"
        instant, message_id, row_id = position
        values = [*instant, message_id] if len(self.columns) > 1 else [row_id]
        marks = ", ".join("?" * len(values))
        return f"({', '.join(self.columns)}) {sign} ({marks})", values


OLDEST_FIRST = Order()


@dataclass
class Conditions:
    """Conditions on the rows `m` of messages, joined by AND, and their parameters."""

    conditions: list[str] = field(default_factory=list)
    parameters: list[object] = field(default_factory=list)

    def require(self, condition: str, *parameters: object) -> None:
        """Add a condition."""
        self.conditions.append(condition)
        self.parameters += parameters

    @property
    def where(self) -> str:
        """The conditions as SQL."""
        return " AND ".join(self.conditions) or "TRUE"

    @property
    def key(self) -> tuple[object, ...]:
        """What tells these conditions from others."""
        return (*self.conditions, *self.parameters)

    @classmethod
    def matching(
        cls, wanted: CommonFilter, after: Position | None = None, order: Order = OLDEST_FIRST
    ) -> "Conditions":
        """Return conditions for all of `wanted` but `q`, and the position `after` of a page."""
        rows = cls.found_by_index(wanted, after, order)
        rows.require_others(wanted)
        return rows

    @classmethod
    def found_by_index(
        cls, wanted: CommonFilter, after: Position | None, order: Order = OLDEST_FIRST
    ) -> "Conditions":
        """Return those of the conditions by which an index finds rows."""
        rows = cls()
        if isinstance(wanted, MessageFilter) and wanted.message_id is not None:
            rows.require("m.message_id = ?", wanted.message_id)
        if wanted.from_msisdn is not None:
            rows.require("m.from_msisdn = ?", wanted.from_msisdn)
        if after is not None:
            condition, values = order.beyond(after)
            rows.require(condition, *values)
        if wanted.since is not None and (
            after is None or order != OLDEST_FIRST or after.instant < wanted.since.instant
        ):
            rows.require("(m.seconds, m.nanos) >= (?, ?)", *wanted.since.instant)
        if wanted.until is not None:
            rows.require("(m.seconds, m.nanos) < (?, ?)", *wanted.until.instant)
        return rows

    def require_others(self, wanted: CommonFilter) -> None:
        """Add the other conditions, for which each row is looked at; `q` is not among them."""
        if wanted.to_msisdn is not None:
            self.require("m.to_msisdn = ?", wanted.to_msisdn)
        if wanted.provider is not None:
            self.require("m.provider = ?", wanted.provider)
