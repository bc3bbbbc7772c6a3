"""Counts of the last hours and days, from the counters, at a cost that does not grow."""

import time
from typing import NamedTuple

from webhook_api.reading.stats import top_senders
from webhook_api.store.connections import Connection
from webhook_api.store.counting import DAY_S, HOUR_S, count_before, read_totals
from webhook_api.timestamps import Instant

HOURS = 24
DAYS = 30


class Bar(NamedTuple):
    """The number of messages in the hour or day from `start` (seconds since 1970)."""

    start: int
    messages: int


class Overview(NamedTuple):
    """Counts of all messages, and of the last hours and days. Days are those of UTC."""

    total: int
    senders: int
    top_senders: list[tuple[str, int]]
    last_day: int
    day_before: int
    hours: list[Bar]
    days: list[Bar]


def count_overview(db: Connection, now: float | None = None) -> Overview:
    """Return the counts as they are `now` (seconds since 1970), all from one snapshot.

    Raises:
        sqlite3.Error: the database cannot be read.
    """
    second = int(time.time() if now is None else now)
    with read_totals(db) as totals:
        top = top_senders(db)
        now_, before, long_before = (
            count_before(db, Instant(second + 1 - ago, 0)) for ago in (0, DAY_S, 2 * DAY_S)
        )
        hours = _bars(db, second, HOUR_S, HOURS)
        days = _bars(db, second, DAY_S, DAYS)
    last_day, day_before = now_ - before, before - long_before
    return Overview(totals.messages, totals.senders, top, last_day, day_before, hours, days)


def _bars(db: Connection, second: int, length: int, number: int) -> list[Bar]:
    """Return the last `number` periods of `length` seconds; `second` is in the last of them."""
    end = second - second % length + length
    starts = range(end - number * length, end, length)
    counted = dict(
        db.execute(
            "SELECT start, messages FROM periods WHERE length = ? AND start >= ? AND start < ?",
            [length, starts[0], end],
        ).fetchall()
    )
    return [Bar(start, counted.get(start, 0)) for start in starts]
