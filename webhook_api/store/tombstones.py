"""Removing rows. A tombstone is left of each: a digest of its id, to recognise a repeat."""

import sqlite3
from collections.abc import Iterable, Sequence
from hashlib import blake2b

from webhook_api.store.selection import EVERYTHING, Selection
from webhook_api.store.transactions import transaction

DIGEST_BYTES = 16


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


def remove_messages(
    db: sqlite3.Connection, row_ids: Sequence[int], selection: Selection = EVERYTHING
) -> int:
    """Remove those of the rows `row_ids` that `selection` selects; return how many.

    It is one transaction. The triggers of the schema correct the counters and the search index.
    The caller holds the write lock.

    Raises:
        sqlite3.Error: none was removed.
    """
    condition = f"id IN ({', '.join('?' * len(row_ids))}) AND ({selection.condition})"
    parameters = [*row_ids, *selection.parameters]
    with transaction(db):
        ids = db.execute(f"SELECT message_id FROM messages WHERE {condition}", parameters)
        add_tombstones(db, [message_id for (message_id,) in ids])
        return db.execute(f"DELETE FROM messages WHERE {condition}", parameters).rowcount


def add_tombstones(db: sqlite3.Connection, message_ids: Iterable[str]) -> None:
    """Make a repeat of each of `message_ids` a duplicate, in the caller's transaction."""
    (key,) = db.execute("SELECT tombstone_key FROM totals").fetchone()
    # Sorted, so that digests on the same page are written together.
    digests = sorted(digest(key, message_id) for message_id in message_ids)
    db.executemany("INSERT OR IGNORE INTO tombstones VALUES (?)", ([one] for one in digests))
