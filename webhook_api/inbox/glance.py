"""Counts of the last hours and days, from the counters, at a cost that does not grow."""

import time
from typing import NamedTuple

from webhook_api.models import Instant, StatsQuery
from webhook_api.reading.stats import Stats, compute_stats
from webhook_api.store.connections import Connection
from webhook_api.store.counting import count_before, snapshot

_HOUR_S = 3600
_DAY_S = 24 * _HOUR_S
HOURS = 24
DAYS = 30
# An hour is 225 periods of 16 s (scale 4). A day has about twenty whole periods of 4096 s
# (scale 12); the rest at its two ends is summed from periods of 16 s.
_FINE, _COARSE = 4, 12


class Bar(NamedTuple):
    """The number of messages in the hour or day from `start` (seconds since 1970)."""

    start: int
    messages: int


class Glance(NamedTuple):
    """Counts of all messages, and of the last hours and days. Days are those of UTC."""

    stats: Stats
    last_day: int
    day_before: int
    hours: list[Bar]
    days: list[Bar]


def look(db: Connection, now: float | None = None) -> Glance:
    """Return the counts as they are `now` (seconds since 1970).

    Raises:
        sqlite3.Error: the database cannot be read.
    """
    second = int(time.time() if now is None else now)
    stats = compute_stats(db, StatsQuery())
    hour = second // _HOUR_S * _HOUR_S
    day = second // _DAY_S * _DAY_S
    with snapshot(db):
        now_, before, long_before = (
            count_before(db, Instant(second + 1 - ago, 0)) for ago in (0, _DAY_S, 2 * _DAY_S)
        )
        hours = _bars(db, hour - (HOURS - 1) * _HOUR_S, _HOUR_S, HOURS)
        days = _bars(db, day - (DAYS - 1) * _DAY_S, _DAY_S, DAYS)
    return Glance(stats, now_ - before, before - long_before, hours, days)


def _bars(db: Connection, start: int, length: int, number: int) -> list[Bar]:
    """Count the messages in `number` intervals of `length` seconds, a multiple of 16 s."""
    counted = dict.fromkeys(range(number), 0)
    end = start + number * length
    if length < _DAY_S:
        spans = [(_FINE, start, end)]
    else:
        # Coarse periods that lie in one day are used whole, the others in fine periods.
        size = 1 << _COARSE
        edges = [at // size * size for at in range(start, end + 1, length) if at % size]
        spans = [(_FINE, max(edge, start), min(edge + size, end)) for edge in edges]
        spans.append((_COARSE, -(-start // size) * size, end // size * size))
    for scale, since, until in spans:
        rows = db.execute(
            "SELECT ((period << ?) - ?) / ?, sum(messages) FROM periods"
            " WHERE scale = ? AND period >= ? AND period < ?"
            " AND ((period << ?) - ?) / ? = (((period + 1) << ?) - 1 - ?) / ? GROUP BY 1",
            [
                *[scale, start, length, scale, since >> scale, until >> scale],
                *[scale, start, length] * 2,
            ],
        )
        for index, messages in rows:
            counted[index] += messages
    return [Bar(start + index * length, messages) for index, messages in counted.items()]
