"""The SQL that writes messages. Every function here needs the write lock, see `writer`."""

import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from webhook_api.errors import SchemaError
from webhook_api.models import InboundMessage
from webhook_api.store.folding import folded_form
from webhook_api.store.tombstones import was_removed

_COLUMNS = (
    "message_id", "from_msisdn", "to_msisdn", "ts", "text", "created_at",
    "seconds", "nanos", "folded",
)  # fmt: skip
_ROW = f"({', '.join('?' * len(_COLUMNS))})"


class StoreResult(NamedTuple):
    """What became of one message: a new row, or a repeat of one that is or was there."""

    created: bool
    conflict: bool = False  # a repeat, but its content differs from the row's


def insert_messages(
    db: sqlite3.Connection, messages: Sequence[InboundMessage]
) -> list[StoreResult]:
    """Store `messages` in one transaction, and return what became of each, in their order.

    The first of a `message_id` is kept, whether the others come in the same call or later; that
    is the database's own promise, a UNIQUE column (spec, "Idempotency"). ON CONFLICT names that
    column, because OR IGNORE would also swallow a NULL. One that was removed is a repeat as
    well; none can be removed between the look at the tombstones and the insert, as that takes the
    write lock.

    All rows go in by one statement, which SQLite commits by itself. Besides being atomic, that
    gives the interpreter lock away once and not once a row: in a busy process, getting it back
    costs more than the row.

    Raises:
        sqlite3.Error: nothing was stored.
    """
    removed = was_removed(db, [message.message_id for message in messages])
    if not removed:
        return insert_rows(db, messages)
    rest = [message for message in messages if message.message_id not in removed]
    results = iter(insert_rows(db, rest) if rest else [])
    return [
        StoreResult(created=False) if message.message_id in removed else next(results)
        for message in messages
    ]


def insert_rows(db: sqlite3.Connection, messages: Sequence[InboundMessage]) -> list[StoreResult]:
    """Do the same for messages that were never removed."""
    created_at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    values: list[str | int | None] = []
    for message in messages:
        values += (
            message.message_id, message.from_msisdn, message.to_msisdn,
            message.ts.text, message.text, created_at, *message.ts.instant,
            folded_form(message.text),
        )  # fmt: skip
    inserted = db.execute(
        f"INSERT INTO messages ({', '.join(_COLUMNS)}) VALUES {', '.join([_ROW] * len(messages))}"
        " ON CONFLICT (message_id) DO NOTHING",
        values,
    )
    if inserted.rowcount == len(messages):
        return [StoreResult(created=True)] * len(messages)
    return _compare(db, messages, created=inserted.rowcount)


def _compare(
    db: sqlite3.Connection, messages: Sequence[InboundMessage], *, created: int
) -> list[StoreResult]:
    """Return what became of each message, `created` of which are new rows now."""
    marks = ", ".join("?" * len(messages))
    rows = db.execute(
        "SELECT message_id, id, from_msisdn, to_msisdn, ts, text FROM messages"
        f" WHERE message_id IN ({marks})",
        [message.message_id for message in messages],
    )
    stored = {message_id: (row_id, content) for message_id, row_id, *content in rows}
    # Ids only grow, though not one by one: a repeat in the midst of new rows uses one up.
    new_ids = set(sorted((row_id for row_id, _ in stored.values()), reverse=True)[:created])
    results = []
    for message in messages:
        row_id, content = stored[message.message_id]
        delivered = [message.from_msisdn, message.to_msisdn, message.ts.text, message.text]
        results.append(StoreResult(created=row_id in new_ids, conflict=content != delivered))
        new_ids.discard(row_id)  # what follows of the same id repeats it
    return results


def write_probe(db: sqlite3.Connection) -> None:
    """Write and sync a few real bytes, which shows that a message could be stored.

    Raises:
        sqlite3.Error, SchemaError: it could not.
    """
    if db.execute("UPDATE totals SET probes = probes + 1").rowcount != 1:
        raise SchemaError("the table totals is empty")


def checkpoint(db: sqlite3.Connection) -> None:
    """Move what the WAL holds into the database file, as far as no reader still needs it."""
    db.execute("PRAGMA wal_checkpoint(PASSIVE)")
