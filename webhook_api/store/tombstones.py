"""Tombstones: what is left of a removed message, a digest of its id, to recognise a repeat."""

import sqlite3
from collections.abc import Iterable, Sequence
from hashlib import blake2b

DIGEST_BYTES = 16
KEY_BYTES = 32


def digest(key: bytes, message_id: str) -> bytes:
    """Return the digest of `message_id` that a tombstone holds."""
    return blake2b(message_id.encode(), digest_size=DIGEST_BYTES, key=key).digest()


def was_removed(db: sqlite3.Connection, message_ids: Sequence[str]) -> set[str]:
    """Return those of `message_ids` that have a tombstone."""
    row = db.execute(
        "SELECT tombstone_key FROM totals WHERE EXISTS (SELECT 1 FROM tombstones)"
    ).fetchone()
    if row is None:
        return set()
    ids = {digest(row[0], message_id): message_id for message_id in message_ids}
    found = db.execute(
        f"SELECT digest FROM tombstones WHERE digest IN ({', '.join('?' * len(ids))})", [*ids]
    )
    return {ids[found_digest] for (found_digest,) in found}


def add_tombstones(db: sqlite3.Connection, message_ids: Iterable[str]) -> None:
    """Make a repeat of each of `message_ids` a duplicate, in the caller's transaction."""
    (key,) = db.execute("SELECT tombstone_key FROM totals").fetchone()
    # Sorted, so that digests on the same page are written together.
    digests = sorted(digest(key, message_id) for message_id in message_ids)
    db.executemany("INSERT OR IGNORE INTO tombstones VALUES (?)", ([one] for one in digests))
