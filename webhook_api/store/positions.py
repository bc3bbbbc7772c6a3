"""Positions in the feed of messages: a client's, a named consumer's, and the replica's.

A position is the id of a message, and a few digits of a keyed digest over the row. Ids are given
inside the write lock and never used twice, so their order is that of the commits. If the row is
the same insertion that the client saw, then all rows before it are the same as well. So a position
proves itself: if the database was restored, it no longer does.

A consumer is a program whose position is kept beside the messages.

With ACK_AFTER=replica the feed ends at the message up to which the replica has all. This position
is in a small file beside the database, so every process knows what the others have uploaded, also
after a restart. If it does not prove itself, as after a restore, or when a power cut brought back
an older file, nothing counts as uploaded until the next upload.
"""

import sqlite3
from base64 import b32encode
from bisect import bisect_right
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from hashlib import blake2b
from typing import NamedTuple

from webhook_api.errors import StateError
from webhook_api.models import FeedPosition, FeedStart
from webhook_api.store.database import Database
from webhook_api.store.files import REPLICATED, beside
from webhook_api.store.lock import LockedConnection, hold
from webhook_api.timestamps import now_as_text

MAX_CONSUMERS = 64
EXACT_UP_TO = 10_000  # messages that a consumer is behind

_DIGEST_BYTES = 5  # 8 digits
_PURPOSE = b"position"  # the tombstones' digests have the same key
_CONSUMERS = "SELECT name, id, digits, missed, updated_at FROM consumers"
_NOTHING = FeedPosition(0, "-")  # no position has these digits
_NOTE_BYTES = 32  # always as many, so that a reader never sees a part of one

Removed = tuple[int, str, str]  # id, message_id and created_at of a row
Change = Callable[[LockedConnection], "Consumer | None"]


class PositionLost(StateError):
    """A reader cannot go on at its position; `start` and `end` are positions where it can."""

    status = 410


class Pruned(PositionLost):
    """Messages after the position were removed by age."""

    code, detail = "pruned", "messages after this position were removed"


class Diverged(PositionLost):
    """The database was turned back to before the position."""

    code, detail = "diverged", "the database was turned back to before this position"


class NoConsumer(StateError):
    """There is no consumer with this name."""

    status, code, detail = 404, "no_consumer", "there is no consumer with this name"


class TooManyConsumers(StateError):
    """No more consumers can be kept."""

    status, code, detail = 409, "full", f"there are {MAX_CONSUMERS} consumers already"


class Moved(StateError):
    """The consumer is at another position than the client believes, or exists already."""

    status, code, detail = 412, "moved", "the consumer is at another position"


def position_of(key: bytes, row_id: int, message_id: str, created_at: str) -> FeedPosition:
    """Return the position after the message of a row."""
    row = f"{row_id} {created_at} {message_id}".encode()
    digest = blake2b(row, digest_size=_DIGEST_BYTES, key=key, person=_PURPOSE).digest()
    return FeedPosition(row_id, b32encode(digest).decode().lower())


def key_of(db: sqlite3.Connection) -> bytes:
    """Return the secret of the database with which positions are made."""
    (key,) = db.execute("SELECT tombstone_key FROM totals").fetchone()
    return bytes(key)


def start_of(db: sqlite3.Connection) -> FeedPosition:
    """Return the position before all stored messages."""
    row_id, digits = db.execute(
        "SELECT id, digits FROM removed_positions ORDER BY id LIMIT 1"
    ).fetchone() or (0, "")
    return FeedPosition(row_id, digits) if row_id else position_of(key_of(db), 0, "", "")


def end_of(db: sqlite3.Connection) -> FeedPosition:
    """Return the position after all stored messages."""
    return _position_at(db, "ORDER BY id DESC LIMIT 1") or start_of(db)


def _position_at(db: sqlite3.Connection, where: str, *parameters: int) -> FeedPosition | None:
    row = db.execute(
        f"SELECT id, message_id, created_at FROM messages {where}", parameters
    ).fetchone()
    return row and position_of(key_of(db), *row)


def resolve_position(
    db: sqlite3.Connection, wanted: FeedPosition | FeedStart, end: FeedPosition | None = None
) -> FeedPosition:
    """Return the position that `wanted` names, once it has proved itself.

    Without `end`, the feed ends after all stored messages.

    Raises:
        Pruned, Diverged: there is no such position any more.
    """
    start = start_of(db)
    if wanted == "start":
        return start
    if wanted == "now":
        return end or end_of(db)
    assert isinstance(wanted, FeedPosition)
    if wanted.id < start.id:
        raise Pruned(start=str(start))
    if wanted != start and not is_proved(db, wanted):
        raise Diverged(start=str(start), end=str(end or end_of(db)))
    return wanted


def is_proved(db: sqlite3.Connection, position: FeedPosition) -> bool:
    """Return whether the database has, or had, the message of this position."""
    if stored := _position_at(db, "WHERE id = ?", position.id):
        return stored == position
    removed = "SELECT 1 FROM removed_positions WHERE (id, digits) = (?, ?)"
    return db.execute(removed, position).fetchone() is not None


def note_removed(db: LockedConnection, rows: Sequence[Removed], *, by_age: bool) -> None:
    """Keep the positions of messages that were removed, in the same transaction.

    If they were removed `by_age`, count them for each consumer that had not read them. Positions
    before the oldest message that is left are then given up, but for the last: it is the new start.
    """
    key = key_of(db)
    kept = [position_of(key, *row) for row in rows]
    db.executemany("INSERT OR REPLACE INTO removed_positions VALUES (?, ?)", kept)
    if by_age:
        ids = sorted(position.id for position in kept)
        count_missed(db, ids)
        (first,) = db.execute("SELECT min(id) FROM messages").fetchone()
        below = [row_id for row_id in ids if first is None or row_id < first]
        if below:
            db.execute("DELETE FROM removed_positions WHERE id < ?", [below[-1]])


def count_missed(db: LockedConnection, ids: Sequence[int]) -> None:
    """Add to each consumer how many of `ids`, in order, come after its position."""
    for name, row_id in db.execute("SELECT name, id FROM consumers").fetchall():
        if missed := len(ids) - bisect_right(ids, row_id):
            db.execute("UPDATE consumers SET missed = missed + ? WHERE name = ?", [missed, name])


class Consumer(NamedTuple):
    """A consumer, as it is stored."""

    name: str
    position: FeedPosition
    missed: int  # messages that were removed by age before it had read them
    updated_at: str


def list_consumers(db: sqlite3.Connection) -> list[Consumer]:
    """Return all consumers, by name."""
    return [_from_row(row) for row in db.execute(f"{_CONSUMERS} ORDER BY name")]


def find_consumer(db: sqlite3.Connection, name: str) -> Consumer:
    """Return a consumer, or raise NoConsumer."""
    row = db.execute(f"{_CONSUMERS} WHERE name = ?", [name]).fetchone()
    if row is None:
        raise NoConsumer
    return _from_row(row)


def create_consumer(db: LockedConnection, name: str, wanted: FeedPosition | FeedStart) -> Consumer:
    """Keep a new consumer, in the caller's transaction.

    Raises:
        Moved: it is there already.
        TooManyConsumers, PositionLost: nothing was written.
    """
    kept = {consumer.name: consumer.position for consumer in list_consumers(db)}
    if name in kept:
        raise Moved(position=str(kept[name]))
    if len(kept) >= MAX_CONSUMERS:
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


@contextmanager
def one_uploads(database: Database) -> Iterator[FeedPosition]:
    """Let only one process at a time ask for an upload; yield what is noted now.

    Raises:
        OSError: the folder cannot be written.
    """
    with hold(beside(database.path, REPLICATED)):
        yield _noted_end(database)


def note_replicated(database: Database, end: FeedPosition) -> None:
    """Let the feed go on to `end`. Called within `one_uploads`, so that it never goes back.

    Raises:
        OSError: it stays where it is.
    """
    with beside(database.path, REPLICATED).open("r+b", buffering=0) as file:
        file.write(str(end).encode().ljust(_NOTE_BYTES))
    database.note_arrival()


def replicated_end(database: Database) -> FeedPosition | None:
    """Return the position where the feed ends; None: it has no end of its own."""
    return _noted_end(database) if database.feed_ends_at_replica else None


def _noted_end(database: Database) -> FeedPosition:
    with suppress(OSError, ValueError):
        # Whatever else is in the file, only this is ever written again.
        noted = beside(database.path, REPLICATED).read_bytes()[:_NOTE_BYTES]
        position = FeedPosition.parse(noted.decode().strip())
        if isinstance(position, FeedPosition):
            return position
    return _NOTHING
