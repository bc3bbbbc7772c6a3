"""The feed: messages in the order in which they were stored, each with the position after it."""

import sqlite3
from collections.abc import Iterator
from typing import NamedTuple

from webhook_api.errors import Unavailable
from webhook_api.models import FeedPosition, FeedQuery, FeedStart
from webhook_api.reading.conditions import equalities
from webhook_api.reading.listing import COMPLETE_COLUMNS, CompleteRow
from webhook_api.responses import FeedMessage
from webhook_api.store.connections import Connection
from webhook_api.store.database import Database
from webhook_api.store.lock import read_transaction
from webhook_api.store.positions import (
    end_of,
    is_proved,
    key_of,
    position_of,
    resolve_position,
    start_of,
)

MAX_LOOKED_AT = 10_000  # rows, for one page
_MAX_CHARS = 1024 * 1024  # of texts and payloads, after which a page ends early
_STREAMED = 200  # messages in one part of a stream

_FILTERED = ("from_msisdn", "to_msisdn", "provider")


class FeedPart(NamedTuple):
    """Some messages, where to go on after them, and whether there may be more now."""

    messages: list[FeedMessage]
    position: FeedPosition
    more: bool


def read_feed(
    db: Connection,
    wanted: FeedQuery,
    after: FeedPosition | FeedStart,
    limit: int,
    replicated: FeedPosition | None = None,
) -> FeedPart:
    """Return up to `limit` of the messages after a position that match, in one snapshot.

    Once this has returned a position, nothing at or before it ever appears: see `positions.py`.
    At most `MAX_LOOKED_AT` rows are looked at; the position is that of the last of them. Unless
    `replicated` is None, nothing after it is shown, and nothing at all if it cannot prove itself.

    Raises:
        PositionLost: see `resolve_position`.
        sqlite3.Error: the database cannot be read.
    """
    with read_transaction(db):
        end = end_of(db)
        if replicated is not None:
            end = min(end, replicated if is_proved(db, replicated) else start_of(db))
        position, key = resolve_position(db, after, end), key_of(db)
        matching, last = equalities(wanted, *_FILTERED), None
        if matching.terms:
            last = db.execute(
                "SELECT id, message_id, created_at FROM messages WHERE id BETWEEN ? AND ?"
                f" ORDER BY id LIMIT 1 OFFSET {MAX_LOOKED_AT - 1}",
                [position.id + 1, end.id],
            ).fetchone()
        # No index has the order of the ids.
        found = db.execute(
            f"SELECT id, {COMPLETE_COLUMNS} FROM messages m NOT INDEXED"
            f" WHERE id BETWEEN ? AND ? AND {matching.sql} ORDER BY id LIMIT ?",
            [position.id + 1, last[0] if last else end.id, *matching.parameters, limit + 1],
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
        position = max(position, position_of(key, *last) if last else end)
        return FeedPart(messages, position, last is not None)


class NewMessages:
    """Those after a position, for a request that waits for some that match."""

    def __init__(self, database: Database, wanted: FeedQuery, after: FeedPosition) -> None:
        self._database = database
        self._matching = equalities(wanted, *_FILTERED)
        self._last_id = after.id

    def have_come(self) -> bool:
        """Return whether one matches of those that came since the last call.

        True also if that is not known: the file cannot be read, or it is another one, which has no
        newer message though something has changed.
        """
        try:
            with self._database.reader() as db:
                newest, is_there = db.execute(
                    f"SELECT max(id), max({self._matching.sql})"
                    " FROM messages m NOT INDEXED WHERE id > ?",
                    [*self._matching.parameters, self._last_id],
                ).fetchone()
        except (Unavailable, sqlite3.Error):
            return True
        self._last_id = newest or self._last_id
        return newest is None or bool(is_there)


def stream_feed(
    db: Connection,
    wanted: FeedQuery,
    after: FeedPosition | FeedStart,
    replicated: FeedPosition | None = None,
) -> Iterator[list[FeedMessage]]:
    """Yield all messages after a position that match, a part at a time; a part may be empty.

    Raises:
        PositionLost: also in the midst, if retention has overtaken the stream; it ends there.
        sqlite3.Error: the database cannot be read.
    """
    more = True
    while more:
        messages, after, more = read_feed(db, wanted, after, _STREAMED, replicated)
        yield messages
