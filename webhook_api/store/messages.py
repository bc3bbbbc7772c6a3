"""The SQL that stores and removes messages.

A removed message leaves a tombstone, a digest of its id, to recognise a repeat.
"""

import json
import sqlite3
from collections.abc import Iterable, Sequence
from datetime import datetime
from hashlib import blake2b
from typing import NamedTuple

from webhook_api.errors import SchemaError
from webhook_api.models import InboundMessage, Origin
from webhook_api.store.folding import folded_form
from webhook_api.store.lock import LockedConnection, transaction
from webhook_api.store.positions import note_removed
from webhook_api.timestamps import as_text, now_as_text

DIGEST_BYTES = 16
KEY_BYTES = 32

_COLUMNS = (
    "message_id", "from_msisdn", "to_msisdn", "ts", "text", "created_at",
    "seconds", "nanos", "folded", *Origin._fields,
)  # fmt: skip
_ROW = f"({', '.join('?' * len(_COLUMNS))})"


class StoreResult(NamedTuple):
    """What became of one message: a new row, or a repeat of one that is or was stored."""

    created: bool
    conflict: bool = False  # a repeat whose content differs from the row


def insert_messages(db: LockedConnection, messages: Sequence[InboundMessage]) -> list[StoreResult]:
    """Store `messages` in one transaction, and return what became of each, in their order.

    The first message of a `message_id` is kept; the others, in this call or later, are repeats.
    A UNIQUE column makes sure of that (spec, "Idempotency"). ON CONFLICT names it, because
    OR IGNORE would also ignore a NULL. A message that was removed is not stored again: under the
    write lock nobody can remove one between the query for tombstones and the insert.

    One statement inserts all rows, and SQLite commits it by itself. So the interpreter lock is
    given away once, not for each row: in a busy process, getting it back costs more than a row.
    """
    removed = was_removed(db, [message.message_id for message in messages])
    rest = [message for message in messages if message.message_id not in removed]
    results = iter(_insert_rows(db, rest) if rest else [])
    return [
        StoreResult(created=False) if message.message_id in removed else next(results)
        for message in messages
    ]


def _insert_rows(db: LockedConnection, messages: Sequence[InboundMessage]) -> list[StoreResult]:
    """Do the same for messages without a tombstone.

    The rows get their ids here, under the write lock, so that the order of the ids is that of the
    commits: the feed relies on it (`positions.py`).
    """
    created_at = now_as_text()
    values: list[str | int | None] = []
    for message in messages:
        values += (
            message.message_id, message.from_msisdn, message.to_msisdn,
            message.ts.text, message.text, created_at, *message.ts.instant,
            folded_form(message.text), *message.origin,
        )  # fmt: skip
    inserted = db.execute(
        f"INSERT INTO messages ({', '.join(_COLUMNS)}) VALUES {', '.join([_ROW] * len(messages))}"
        " ON CONFLICT (message_id) DO NOTHING",
        values,
    )
    if inserted.rowcount == len(messages):
        return [StoreResult(created=True)] * len(messages)
    return _recognise_repeats(db, messages, created=inserted.rowcount)


def _recognise_repeats(
    db: sqlite3.Connection, messages: Sequence[InboundMessage], *, created: int
) -> list[StoreResult]:
    """Return what became of each message; `created` of them are new rows."""
    marks = ", ".join("?" * len(messages))
    rows = db.execute(
        "SELECT message_id, id, from_msisdn, to_msisdn, ts, text FROM messages"
        f" WHERE message_id IN ({marks})",
        [message.message_id for message in messages],
    )
    stored = {message_id: (row_id, content) for message_id, row_id, *content in rows}
    # Ids only grow, with gaps: a repeat between new rows uses one up.
    new_ids = set(sorted((row_id for row_id, _ in stored.values()), reverse=True)[:created])
    results = []
    for message in messages:
        row_id, content = stored[message.message_id]
        delivered = [message.from_msisdn, message.to_msisdn, message.ts.text, message.text]
        results.append(StoreResult(created=row_id in new_ids, conflict=content != delivered))
        new_ids.discard(row_id)  # the next message with this message_id is a repeat
    return results


class Selection(NamedTuple):
    """Which messages to remove: a condition in SQL, and its parameters.

    It selects dead letters as well; if there is an `address`, those that contain it.
    """

    condition: str
    parameters: Sequence[str]
    address: str | None = None

    @property
    def is_by_age(self) -> bool:
        """Whether it selects by age, so that a reader that was slow has missed messages."""
        return self.address is None


def older_than(moment: datetime) -> Selection:
    """Select the messages that arrived before `moment`, by the server's time."""
    return Selection("created_at < ?", [as_text(moment)])


def of_number(number: str) -> Selection:
    """Select the messages from or to `number`, or another address, or with it in the payload.

    There it is found as a whole text, also as Meta and Twilio write a number.
    """
    names = {number, number.removeprefix("+"), f"whatsapp:{number}"}
    texts = [json.dumps(name, ensure_ascii=False) for name in sorted(names)]
    contained = " OR instr(payload, ?)" * len(texts)
    return Selection(
        f"from_msisdn = ? OR to_msisdn = ?{contained}", [number, number, *texts], number
    )


EVERYTHING = Selection("TRUE", [])


def remove_messages(
    db: LockedConnection, row_ids: Sequence[int], selection: Selection = EVERYTHING
) -> int:
    """Remove those of the rows `row_ids` that `selection` selects; return how many.

    It is one transaction. The triggers of the schema correct the counters and the search index.
    """
    condition = f"id IN ({', '.join('?' * len(row_ids))}) AND ({selection.condition})"
    parameters = [*row_ids, *selection.parameters]
    with transaction(db):
        rows = db.execute(
            f"DELETE FROM messages WHERE {condition} RETURNING id, message_id, created_at",
            parameters,
        ).fetchall()
        add_tombstones(db, [message_id for _, message_id, _ in rows])
        note_removed(db, rows, by_age=selection.is_by_age)
        return len(rows)


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


def add_tombstones(db: LockedConnection, message_ids: Iterable[str]) -> None:
    """Make a repeat of each of `message_ids` a duplicate, in the caller's transaction."""
    (key,) = db.execute("SELECT tombstone_key FROM totals").fetchone()
    # Sorted, so that digests on the same page are written together.
    digests = sorted(digest(key, message_id) for message_id in message_ids)
    db.executemany("INSERT OR IGNORE INTO tombstones VALUES (?)", ([one] for one in digests))


def write_probe(db: LockedConnection) -> None:
    """Write and sync a few bytes, to see whether a message could be stored."""
    if db.execute("UPDATE totals SET probes = probes + 1").rowcount != 1:
        raise SchemaError("the table totals is empty")
