"""Stored messages as the API shows them: the five fields of a list, or all that is kept of one."""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from pydantic_core import from_json

from webhook_api.models import Cursor
from webhook_api.reading.conditions import Order
from webhook_api.responses import CompleteMessage, Message
from webhook_api.store.connections import Connection
from webhook_api.timestamps import Instant

# Of a `StoredMessage`.
COLUMNS = "m.message_id, m.from_msisdn, m.to_msisdn, m.ts, m.text, m.seconds, m.nanos, m.id"

_encode = json.JSONEncoder(ensure_ascii=False).encode
# JSON allows these in a text, but some programs would split the line there, and a terminal would
# obey some of them: C1 and bidirectional controls.
_CONTROLS = {
    code: f"\\u{code:04x}"
    for code in (
        *range(0x7F, 0xA0), 0x61C, 0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A),
    )
}  # fmt: skip


def _as_json(message_id: str, sender: str, to: str, ts: str, text: str | None) -> Message:
    """Return the JSON object of a message, which is also a valid body of POST /webhook."""
    return {"message_id": message_id, "from": sender, "to": to, "ts": ts, "text": text}


class StoredMessage(NamedTuple):
    """A message of a list, and where the next page starts after it."""

    message_id: str
    from_msisdn: str
    to_msisdn: str
    ts: str
    text: str | None
    cursor: Cursor

    @classmethod
    def from_row(cls, row: Sequence[Any]) -> "StoredMessage":
        """Build from `COLUMNS`."""
        message_id, sender, receiver, ts, text, seconds, nanos, row_id = row
        cursor = Cursor(Instant(seconds, nanos), row_id)
        return cls(message_id, sender, receiver, ts, text, cursor)

    def as_json(self) -> Message:
        return _as_json(*self[:5])

    def as_line(self, **more: object) -> bytes:
        """Return `as_json` and `more` as a line of NDJSON, readable in every script."""
        return _encode({**self.as_json(), **more}).translate(_CONTROLS).encode() + b"\n"


class CompleteRow(NamedTuple):
    """A row of the table of messages."""

    message_id: str
    from_msisdn: str
    to_msisdn: str
    ts: str
    text: str | None
    created_at: str
    provider: str
    kind: str | None
    payload: str | None

    def as_json(self) -> Message:
        return _as_json(*self[:5])

    def as_complete_json(self) -> CompleteMessage:
        return {
            **self.as_json(),
            "received_at": self.created_at,
            "provider": self.provider,
            "kind": self.kind,
            "payload": self.content,
        }

    @property
    def content(self) -> Any:
        """The provider's object for the message; None if there is none."""
        return from_json(self.payload) if self.payload else None


COMPLETE_COLUMNS = ", ".join(CompleteRow._fields)


def read_messages(db: Connection, ids: Sequence[int], order: Order) -> list[StoredMessage]:
    """Return the messages of the rows with these ids, in order."""
    found = db.execute(
        f"SELECT {COLUMNS} FROM messages m"
        f" WHERE m.id IN ({', '.join('?' * len(ids))}) ORDER BY {order.sql}",
        ids,
    )
    return [StoredMessage.from_row(row) for row in found]


def find_message(db: Connection, key: str | int) -> CompleteRow | None:
    """Return the message with this `message_id`, or of the row with this number; None: no such."""
    column = "id" if isinstance(key, int) else "message_id"
    row = db.execute(
        f"SELECT {COMPLETE_COLUMNS} FROM messages WHERE {column} = ?", [key]
    ).fetchone()
    return CompleteRow(*row) if row else None
