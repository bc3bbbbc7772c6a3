"""Conditions on rows of messages, and the order in which they are listed."""

from dataclasses import dataclass, field
from typing import NamedTuple

from webhook_api.models import Cursor, MessageFilter
from webhook_api.store.connections import Connection
from webhook_api.timestamps import Instant

ORDER = "m.seconds, m.nanos, m.message_id"
NEWEST_FIRST = "m.seconds DESC, m.nanos DESC, m.message_id DESC"


class Position(NamedTuple):
    """The values of a row that order it among all others."""

    instant: Instant
    message_id: str

    @classmethod
    def of(cls, db: Connection, cursor: Cursor | None) -> "Position | None":
        """Return the position of the row of `cursor`; None if there is no cursor.

        If the row was removed, its `message_id` is not known: other messages of its instant may
        then come twice, but none is left out.
        """
        if cursor is None:
            return None
        row = db.execute("SELECT message_id FROM messages WHERE id = ?", [cursor.id]).fetchone()
        return cls(cursor.instant, row[0] if row else "")


@dataclass
class Rows:
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

    @classmethod
    def matching(
        cls, wanted: MessageFilter, after: Position | None = None, *, newest_first: bool = False
    ) -> "Rows":
        """Return conditions for sender, time and the position `after` of a page; ignore `q`."""
        rows = cls()
        if wanted.from_msisdn is not None:
            rows.require("m.from_msisdn = ?", wanted.from_msisdn)
        if after is not None:
            beyond = "<" if newest_first else ">"
            rows.require(f"({ORDER}) {beyond} (?, ?, ?)", *after.instant, after.message_id)
        if wanted.since is not None and (
            after is None or newest_first or after.instant < wanted.since.instant
        ):
            rows.require("(m.seconds, m.nanos) >= (?, ?)", *wanted.since.instant)
        if wanted.until is not None:
            rows.require("(m.seconds, m.nanos) < (?, ?)", *wanted.until.instant)
        return rows
