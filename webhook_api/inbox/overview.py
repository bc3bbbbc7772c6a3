"""Counts of the last hours and days, from the counters, at a cost that does not grow."""

import time
from collections.abc import Sequence
from typing import NamedTuple

from webhook_api.reading.stats import top_senders
from webhook_api.store.connections import Connection
from webhook_api.store.counting import DAY_S, HOUR_S, count_before, read_totals
from webhook_api.timestamps import Instant

HOURS = 24
DAYS = 30
_WIDTH, _GAP, _MAX_HEIGHT, _MIN_HEIGHT = 10, 1, 58, 2  # of a bar in an SVG of 60 units in height


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
    """Return the counts as they are `now` (seconds since 1970), all from one snapshot."""
    second = int(time.time() if now is None else now)
    with read_totals(db) as totals:
        top = top_senders(db)
        until_now, before, long_before = (
            count_before(db, Instant(second + 1 - ago, 0)) for ago in (0, DAY_S, 2 * DAY_S)
        )
        hours = _bars(db, second, HOUR_S, HOURS)
        days = _bars(db, second, DAY_S, DAYS)
    last_day, day_before = until_now - before, before - long_before
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


class Column(NamedTuple):
    """A bar as it is drawn: from the left, and from the bottom upwards."""

    name: str
    messages: int
    x: int
    height: int


def draw(bars: Sequence[Bar], form: str) -> list[Column]:
    """Return the columns of `bars`, named by their start in UTC; `form` is that of `strftime`."""
    highest = max(bar.messages for bar in bars)
    return [
        Column(
            time.strftime(form, time.gmtime(start)),
            messages,
            index * _WIDTH + _GAP,
            max(messages * _MAX_HEIGHT // highest, _MIN_HEIGHT) if messages else 1,
        )
        for index, (start, messages) in enumerate(bars)
    ]
