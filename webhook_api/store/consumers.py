"""Named consumers: programs whose position in the feed is kept beside the messages.

What is written here needs the write lock, see `writer.py`.
"""

import sqlite3
from collections.abc import Callable, Container
from datetime import UTC, datetime
from typing import NamedTuple

from webhook_api.errors import StateError
from webhook_api.models import FeedPosition, FeedStart
from webhook_api.store.lock import LockedConnection
from webhook_api.store.positions import resolve_position
from webhook_api.timestamps import now_as_text

MAX_CONSUMERS = 64
EXACT_UP_TO = 10_000  # messages that a consumer is behind

Change = Callable[[LockedConnection], "Consumer | None"]
_SELECT = "SELECT name, id, digits, missed, updated_at FROM consumers"


class Consumer(NamedTuple):
    """A consumer, as it is stored."""

    name: str
    position: FeedPosition
    missed: int  # messages that were removed by age before it had read them
    updated_at: str


class NoConsumer(StateError):
    """There is no consumer with this name."""

    status, code, detail = 404, "no_consumer", "there is no consumer with this name"


class TooManyConsumers(StateError):
    """No more consumers can be kept."""

    status, code, detail = 409, "full", f"there are {MAX_CONSUMERS} consumers already"


class Moved(StateError):
    """The consumer is at another position than the client believes, or exists already."""

    status, code, detail = 412, "moved", "the consumer is at another position"


def list_consumers(db: sqlite3.Connection) -> list[Consumer]:
    """Return all consumers, by name."""
    return [_from_row(row) for row in db.execute(f"{_SELECT} ORDER BY name")]


def find_consumer(db: sqlite3.Connection, name: str) -> Consumer:
    """Return a consumer, or raise NoConsumer."""
    row = db.execute(f"{_SELECT} WHERE name = ?", [name]).fetchone()
    if row is None:
        raise NoConsumer
    return _from_row(row)


def create_consumer(db: LockedConnection, name: str, wanted: FeedPosition | FeedStart) -> Consumer:
    """Keep a new consumer, in the caller's transaction.

    Raises:
        Moved: it is there already.
        TooManyConsumers, PositionLost: nothing was written.
    """
    consumers = list_consumers(db)
    for consumer in consumers:
        if consumer.name == name:
            raise Moved(position=str(consumer.position))
    if len(consumers) >= MAX_CONSUMERS:
        raise TooManyConsumers
    position = resolve_position(db, wanted)
    db.execute(
        "INSERT INTO consumers (name, id, digits, updated_at) VALUES (?, ?, ?, ?)",
        [name, *position, now_as_text()],
    )
    return find_consumer(db, name)


def move_consumer(
    db: LockedConnection,
    name: str,
    wanted: FeedPosition | FeedStart,
    expected: Container[str] | None = None,
) -> Consumer:
    """Move a consumer from one of the `expected` positions, or from any, in a transaction.

    Raises:
        NoConsumer, Moved, PositionLost: nothing was written.
    """
    kept = find_consumer(db, name).position
    if expected is not None and str(kept) not in expected:
        raise Moved(position=str(kept))
    db.execute(
        "UPDATE consumers SET id = ?, digits = ?, updated_at = ? WHERE name = ?",
        [*resolve_position(db, wanted), now_as_text(), name],
    )
    return find_consumer(db, name)


def remove_consumer(db: LockedConnection, name: str) -> None:
    """Remove a consumer, in the caller's transaction, or raise NoConsumer."""
    find_consumer(db, name)
    db.execute("DELETE FROM consumers WHERE name = ?", [name])


class Lag(NamedTuple):
    """How many messages a consumer is behind, and how old the first of them is."""

    behind: int
    oldest_unread_seconds: float


def lag_of(db: sqlite3.Connection, consumer: Consumer) -> Lag:
    """Return how far a consumer is behind: exact up to `EXACT_UP_TO`, above that not too few."""
    row_id = consumer.position.id
    oldest = db.execute(
        "SELECT created_at FROM messages WHERE id > ? ORDER BY id LIMIT 1", [row_id]
    ).fetchone()
    if oldest is None:
        return Lag(0, 0.0)
    (behind,) = db.execute(
        "SELECT count(*) FROM (SELECT 1 FROM messages WHERE id > ? LIMIT ?)",
        [row_id, EXACT_UP_TO + 1],
    ).fetchone()
    if behind > EXACT_UP_TO:
        # Ids have gaps, and so have messages before the position.
        (behind,) = db.execute(
            "SELECT min(messages, (SELECT max(id) FROM messages) - ?) FROM totals", [row_id]
        ).fetchone()
    age = datetime.now(UTC) - datetime.fromisoformat(oldest[0])
    return Lag(behind, max(0.0, round(age.total_seconds(), 3)))


def _from_row(row: tuple[str, int, str, int, str]) -> Consumer:
    name, row_id, digits, missed, updated_at = row
    return Consumer(name, FeedPosition(row_id, digits), missed, updated_at)
