"""Exact counts from the counters that the schema's triggers keep, without reading all rows."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from webhook_api.errors import SchemaError, Unavailable
from webhook_api.store.database import Database
from webhook_api.store.lock import read_transaction
from webhook_api.timestamps import Instant

HOUR_S = 3600
DAY_S = 24 * HOUR_S
PERIODS_S = (256 * DAY_S, DAY_S, HOUR_S, 16)  # in the table `periods`; each divides the one before
_EARLIEST = -(2**60)  # before every message


class Totals(NamedTuple):
    """The one row of the table `totals`."""

    messages: int
    senders: int
    indexed: int  # the id up to which rows are in the search index
    removed: int  # messages ever removed from this file
    newest: int  # the id of the message that arrived last; 0 if there is none
    dead_letters: int


@contextmanager
def read_totals(db: sqlite3.Connection) -> Iterator[Totals]:
    """Read the totals, and make the reads of a `with` block see one state of the database."""
    with read_transaction(db):
        row = db.execute(
            "SELECT messages, senders, indexed, deletions,"
            " coalesce((SELECT max(id) FROM messages), 0), dead_letters FROM totals"
        ).fetchone()
        if row is None:
            raise SchemaError("the table totals is empty")
        yield Totals(*row)


def stored_totals(database: Database) -> Totals | None:
    """Return the totals as they are now; None if they cannot be read."""
    with (
        suppress(sqlite3.Error, SchemaError, Unavailable),
        database.reader() as db,
        read_totals(db) as totals,
    ):
        return totals
    return None


def count_before(db: sqlite3.Connection, instant: Instant) -> int:
    """Return how many messages have an instant before `instant`.

    From the longest periods to the shortest, it sums those that end before `instant` and are
    not yet counted. Then it counts the rows in the last 16 seconds.
    """
    total = 0
    covered = _EARLIEST  # the second up to which messages are counted
    for length in PERIODS_S:
        end = instant.seconds - instant.seconds % length
        total += db.execute(
            "SELECT coalesce(sum(messages), 0) FROM periods"
            " WHERE length = ? AND start >= ? AND start < ?",
            [length, covered, end],
        ).fetchone()[0]
        covered = end
    return total + int(
        db.execute(
            "SELECT count(*) FROM messages"
            " WHERE (seconds, nanos) >= (?, 0) AND (seconds, nanos) < (?, ?)",
            [covered, *instant],
        ).fetchone()[0]
    )


def seek(db: sqlite3.Connection, number: int) -> tuple[Instant, int]:
    """Return an instant shortly before row `number` (from 0), and how many rows are earlier."""
    skipped = 0
    start = _EARLIEST
    for length in PERIODS_S:
        periods = db.execute(
            "SELECT start, messages FROM periods WHERE length = ? AND start >= ? ORDER BY start",
            [length, start],
        )
        for begin, messages in periods:
            start = begin
            if skipped + messages > number:
                break
            skipped += messages
    return Instant(start, 0), skipped
