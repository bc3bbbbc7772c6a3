"""Exact counts from the counters that the schema's triggers keep, without reading all rows."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from webhook_api.errors import SchemaError, Unavailable
from webhook_api.models import Instant
from webhook_api.store.database import Database
from webhook_api.store.transactions import read_transaction

SCALES = (28, 20, 12, 4)  # of the table `periods`, the coarsest first
_FIRST_PERIOD = -(2**40)  # before every period that a message can have


class Totals(NamedTuple):
    """The one row of the table `totals`."""

    messages: int
    senders: int
    indexed: int  # the id up to which rows are in the search index
    removed: int  # messages ever removed from this file


@contextmanager
def snapshot(db: sqlite3.Connection) -> Iterator[Totals]:
    """Make the reads of a `with` block see one state of the database.

    Raises:
        SchemaError: the table `totals` is empty.
        sqlite3.Error: the database cannot be read.
    """
    with read_transaction(db):
        row = db.execute("SELECT messages, senders, indexed, deletions FROM totals").fetchone()
        if row is None:
            raise SchemaError("the table totals is empty")
        yield Totals(*row)


def stored_totals(database: Database) -> Totals | None:
    """Return the totals as they are now; None if they cannot be read."""
    with (
        suppress(sqlite3.Error, SchemaError, Unavailable),
        database.reader() as db,
        snapshot(db) as totals,
    ):
        return totals
    return None


def count_before(db: sqlite3.Connection, instant: Instant) -> int:
    """Return how many messages have an instant before `instant`.

    From the coarsest scale to the finest, it sums the periods that end before `instant` and are
    not yet counted. Then it counts the rows in the last 16 seconds.
    """
    total = 0
    covered = None  # the second up to which messages are counted; None: nothing yet
    for scale in SCALES:
        end = instant.seconds >> scale
        start = _FIRST_PERIOD if covered is None else covered >> scale
        total += db.execute(
            "SELECT coalesce(sum(messages), 0) FROM periods"
            " WHERE scale = ? AND period >= ? AND period < ?",
            [scale, start, end],
        ).fetchone()[0]
        covered = end << scale
    return total + int(
        db.execute(
            "SELECT count(*) FROM messages"
            " WHERE (seconds, nanos) >= (?, 0) AND (seconds, nanos) < (?, ?)",
            [covered, *instant],
        ).fetchone()[0]
    )


def seek(db: sqlite3.Connection, position: int) -> tuple[Instant | None, int]:
    """Return an instant shortly before the row at `position` (0 is the first row).

    And how many rows are before that instant. None stands for the beginning.
    """
    skipped = 0
    start = None
    for scale in SCALES:
        periods = db.execute(
            "SELECT period, messages FROM periods WHERE scale = ? AND period >= ? ORDER BY period",
            [scale, _FIRST_PERIOD if start is None else start >> scale],
        )
        for period, messages in periods:
            start = period << scale
            if skipped + messages > position:
                break
            skipped += messages
    return (None if start is None else Instant(start, 0)), skipped
