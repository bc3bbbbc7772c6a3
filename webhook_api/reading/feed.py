"""The feed: messages in the order in which they were stored, each with the position after it."""

from collections.abc import Iterator
from typing import NamedTuple

from webhook_api.models import FeedPosition, FeedQuery, FeedStart
from webhook_api.reading.complete_message import CompleteRow
from webhook_api.responses import FeedMessage
from webhook_api.store.connections import Connection
from webhook_api.store.lock import read_transaction
from webhook_api.store.positions import end_of, key_of, position_of, resolve_position

MAX_LOOKED_AT = 10_000  # rows, for one page
_MAX_CHARS = 1024 * 1024  # of texts and payloads, after which a page ends early
_STREAMED = 200  # messages in one part of a stream

_COLUMNS = ", ".join(CompleteRow._fields)


class FeedPart(NamedTuple):
    """Some messages, where to go on after them, and whether there may be more now."""

    messages: list[FeedMessage]
    position: FeedPosition
    more: bool


def read_feed(
    db: Connection, wanted: FeedQuery, after: FeedPosition | FeedStart, limit: int
) -> FeedPart:
    """Return up to `limit` of the messages after a position that match, in one snapshot.

    Once this has returned a position, nothing at or before it ever appears: see `positions.py`.
    At most `MAX_LOOKED_AT` rows are looked at; the position is that of the last of them.

    Raises:
        PositionLost: see `resolve_position`.
        sqlite3.Error: the database cannot be read.
    """
    with read_transaction(db):
        position, key = resolve_position(db, after), key_of(db)
        conditions, parameters, last = "id > ?", [position.id], None
        filters = {
            column: value
            for column in ("from_msisdn", "to_msisdn", "provider")
            if (value := getattr(wanted, column)) is not None
        }
        if filters:
            last = db.execute(
                "SELECT id, message_id, created_at FROM messages WHERE id > ?"
                f" ORDER BY id LIMIT 1 OFFSET {MAX_LOOKED_AT - 1}",
                parameters,
            ).fetchone()
        if last:
            conditions, parameters = "id BETWEEN ? AND ?", [position.id + 1, last[0]]
        # With a plus, no index is used, which would have another order.
        conditions += "".join(f" AND +{column} = ?" for column in filters)
        parameters += filters.values()
        found = db.execute(
            f"SELECT id, {_COLUMNS} FROM messages WHERE {conditions} ORDER BY id LIMIT ?",
            [*parameters, limit + 1],
        )
        messages: list[FeedMessage] = []
        chars = 0
        for row_id, *row in found:
            if len(messages) == limit or chars > _MAX_CHARS:
                return FeedPart(messages, position, True)
            message = CompleteRow(*row)
            position = position_of(key, row_id, message.message_id, message.created_at)
            messages.append({**message.as_complete_json(), "position": str(position)})
            chars += len(message.text or "") + len(message.payload or "")
        position = max(position, position_of(key, *last) if last else end_of(db))
        return FeedPart(messages, position, last is not None)


def stream_feed(
    db: Connection, wanted: FeedQuery, after: FeedPosition | FeedStart
) -> Iterator[list[FeedMessage]]:
    """Yield all messages after a position that match, a part at a time; a part may be empty.

    Raises:
        PositionLost: also in the midst, if retention has overtaken the stream; it ends there.
        sqlite3.Error: the database cannot be read.
    """
    more = True
    while more:
        messages, after, more = read_feed(db, wanted, after, _STREAMED)
        yield messages
