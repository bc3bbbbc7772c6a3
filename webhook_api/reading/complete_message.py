"""One message with all that is stored of it, by the number of its row or by its id."""

from typing import Any, NamedTuple

from pydantic_core import from_json

from webhook_api.responses import CompleteMessage, Message, message_object
from webhook_api.store.connections import Connection


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
        """Return the JSON object of a list."""
        return message_object(*self[:5])

    def as_complete_json(self) -> CompleteMessage:
        """Return the JSON object with everything."""
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


_SELECT = f"SELECT {', '.join(CompleteRow._fields)} FROM messages"


def find_row(db: Connection, row_id: int) -> CompleteRow | None:
    """Return the message of a row, None if there is no such row."""
    row = db.execute(f"{_SELECT} WHERE id = ?", [row_id]).fetchone()
    return CompleteRow(*row) if row else None


def find_message(db: Connection, message_id: str) -> CompleteRow | None:
    """Return the message with this id, None if there is none."""
    row = db.execute(f"{_SELECT} WHERE message_id = ?", [message_id]).fetchone()
    return CompleteRow(*row) if row else None
