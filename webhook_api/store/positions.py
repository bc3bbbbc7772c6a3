"""Positions in the feed of messages; each proves itself, so that a restored database is noticed.

A position is the id of a message, and a few digits of a keyed digest over the row. Ids are given
inside the write lock and never used twice, so their order is that of the commits. If the row is
the same insertion that the client saw, then all rows before it are the same as well.
"""

import sqlite3
from base64 import b32encode
from bisect import bisect_right
from collections.abc import Sequence
from hashlib import blake2b

from webhook_api.errors import StateError
from webhook_api.models import FeedPosition, FeedStart
from webhook_api.store.lock import LockedConnection

_DIGEST_BYTES = 5  # 8 digits
_PURPOSE = b"position"  # the tombstones' digests have the same key

Removed = tuple[int, str, str]  # id, message_id and created_at of a row


class PositionLost(StateError):
    """A reader cannot go on at its position; `start` and `end` are positions where it can."""

    status = 410


class Pruned(PositionLost):
    """Messages after the position were removed by age."""

    code, detail = "pruned", "messages after this position were removed"


class Diverged(PositionLost):
    """The database was turned back to before the position."""

    code, detail = "diverged", "the database was turned back to before this position"


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
    row = db.execute(
        "SELECT id, message_id, created_at FROM messages ORDER BY id DESC LIMIT 1"
    ).fetchone()
    return position_of(key_of(db), *row) if row else start_of(db)


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
    row = db.execute(
        "SELECT id, message_id, created_at FROM messages WHERE id = ?", [position.id]
    ).fetchone()
    if row:
        return position == position_of(key_of(db), *row)
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
