"""One message, for its own page."""

from typing import NamedTuple

from webhook_api.answers import Message, message_object
from webhook_api.store.connections import Connection


class WholeMessage(NamedTuple):
    """One message with all that is stored of it."""

    message_id: str
    from_msisdn: str
    to_msisdn: str
    ts: str
    text: str | None
    created_at: str

    def as_json(self) -> Message:
        """Return the JSON object of the API."""
        return message_object(*self[:5])


def find_message(db: Connection, row_id: int) -> WholeMessage | None:
    """Return the message of a row, None if there is no such row."""
    row = db.execute(
        f"SELECT {', '.join(WholeMessage._fields)} FROM messages WHERE id = ?", [row_id]
    ).fetchone()
    return WholeMessage(*row) if row else None
