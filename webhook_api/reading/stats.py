"""The statistics of GET /stats: how many messages, of which senders, and when (spec 3)."""

from typing import NamedTuple

from webhook_api.models import StatsQuery
from webhook_api.reading.conditions import OLDEST_FIRST, Conditions, Order
from webhook_api.responses import TOP_SENDERS
from webhook_api.store.connections import Connection
from webhook_api.store.counting import Totals, count_before, read_totals
from webhook_api.store.indexing import PERIOD_SCALE
from webhook_api.timestamps import Instant

_FIRST = Instant(-(2**60), 0)  # before every message, and the start of a period
_LAST = Instant(2**60, 0)
Window = tuple[Instant, Instant]  # from the first, up to but not including the second
_ROWS_PER_SEEK = 20  # rows of an index that can be read in the time of one seek
_WINDOW = "(m.seconds, m.nanos) >= (?, ?) AND (m.seconds, m.nanos) < (?, ?)"


class Stats(NamedTuple):
    """Counts of a set of messages; `first_ts` and `last_ts` are None when it is empty."""

    total: int
    senders: int
    top_senders: list[tuple[str, int]]
    first_ts: str | None
    last_ts: str | None


def compute_stats(db: Connection, query: StatsQuery) -> Stats:
    """Return the statistics of the messages that match, all read from one snapshot.

    Raises:
        sqlite3.Error: the database cannot be read.
    """
    window = (
        query.since.instant if query.since else _FIRST,
        query.until.instant if query.until else _LAST,
    )
    with read_totals(db) as totals:
        conditions = Conditions.matching(query)
        if query.reads_all:
            total, senders, top = _each_message(db, conditions, query)
        elif query.from_msisdn is not None:
            total, senders, top = _one_sender(db, query.from_msisdn, window)
        elif query.since or query.until:
            total, senders, top = _all_senders_between(db, window, totals)
        else:
            total, senders, top = totals.messages, totals.senders, top_senders(db)
        first, last = (
            _edge(db, conditions, one) for one in (OLDEST_FIRST, Order(newest_first=True))
        )
    return Stats(total, senders, top, first, last)


def top_senders(db: Connection) -> list[tuple[str, int]]:
    """Return the senders with most messages of all time, and how many each has."""
    return db.execute(
        "SELECT from_msisdn, messages FROM senders ORDER BY messages DESC, from_msisdn LIMIT ?",
        [TOP_SENDERS],
    ).fetchall()


def _one_sender(
    db: Connection, from_msisdn: str, window: Window
) -> tuple[int, int, list[tuple[str, int]]]:
    parameters: list[object] = [from_msisdn]
    if window == (_FIRST, _LAST):
        sql = "SELECT messages FROM senders WHERE from_msisdn = ?"
    else:
        sql = f"SELECT count(*) FROM messages m WHERE m.from_msisdn = ? AND {_WINDOW}"
        parameters += [*window[0], *window[1]]
    row = db.execute(sql, parameters).fetchone()
    return (row[0], 1, [(from_msisdn, row[0])]) if row and row[0] else (0, 0, [])


def _each_message(
    db: Connection, conditions: Conditions, query: StatsQuery
) -> tuple[int, int, list[tuple[str, int]]]:
    """Count each sender's messages by a look at each row of an index."""
    index = "INDEXED BY messages_by_instant" if query.from_msisdn is None else ""
    return _ranked(
        db,
        f"SELECT m.from_msisdn, 1 AS messages FROM messages m {index} WHERE {conditions.where}",
        conditions.parameters,
    )


def _all_senders_between(
    db: Connection, window: Window, totals: Totals
) -> tuple[int, int, list[tuple[str, int]]]:
    """Count each sender's messages in `window`.

    `sender_periods` has whole periods. At each end of the window, the messages between it and the
    nearest start of a period are counted in an index, and added or subtracted. The few rows that
    are not yet in `sender_periods` are read.
    """
    since, until = window
    if since >= until:
        return 0, 0, []
    first, last = (_nearest_period(db, instant, totals) for instant in window)
    parts = [
        "SELECT from_msisdn, messages FROM sender_periods WHERE period >= ? AND period < ?",
        f"SELECT m.from_msisdn, 1 FROM messages m NOT INDEXED WHERE m.id > ? AND {_WINDOW}",
    ]
    parameters: list[object] = [first, last, totals.indexed, *since, *until]
    start, end = (Instant(period << PERIOD_SCALE, 0) for period in (first, last))
    ends = [(1, since, start), (-1, start, since), (1, end, until), (-1, until, end)]
    if first >= last or _count(db, window, totals) <= sum(
        _count(db, (low, high), totals) for _, low, high in ends
    ):
        parameters[1] = first  # no period at all
        ends = [(1, since, until)]
    for sign, low, high in ends:
        if low < high:
            parts.append(_by_sender(sign, _count(db, (low, high), totals), totals))
            parameters += [totals.indexed, *low, *high]
    return _ranked(db, " UNION ALL ".join(parts), parameters)


def _ranked(
    db: Connection, counted: str, parameters: list[object]
) -> tuple[int, int, list[tuple[str, int]]]:
    """Return how many messages and senders there are, and the top senders.

    `counted` is SQL for numbers of messages, each with its sender; more than one of a sender are
    added.
    """
    # The window functions count all senders, before LIMIT leaves most of them out.
    top = db.execute(
        "SELECT from_msisdn, sum(messages), count(*) OVER (), sum(sum(messages)) OVER ()"
        f" FROM ({counted}) GROUP BY from_msisdn HAVING sum(messages) > 0"
        " ORDER BY sum(messages) DESC, from_msisdn LIMIT ?",
        [*parameters, TOP_SENDERS],
    ).fetchall()
    senders, total = top[0][2:] if top else (0, 0)
    return total, senders, [(sender, messages) for sender, messages, *_ in top]


def _nearest_period(db: Connection, instant: Instant, totals: Totals) -> int:
    """Return the period that starts nearest to `instant`, by the number of messages between."""
    period = instant.seconds >> PERIOD_SCALE
    start, end = (Instant(number << PERIOD_SCALE, 0) for number in (period, period + 1))
    too_many, missing = (_count(db, part, totals) for part in ((start, instant), (instant, end)))
    return period if too_many < missing else period + 1


def _count(db: Connection, window: Window, totals: Totals) -> int:
    """Return how many messages there are in `window`; 0 if it ends before it starts."""
    since, until = window
    if since >= until:
        return 0
    return (totals.messages if until == _LAST else count_before(db, until)) - (
        0 if since == _FIRST else count_before(db, since)
    )


def _by_sender(sign: int, messages: int, totals: Totals) -> str:
    """Return SQL that counts each sender's messages in a window, times `sign`.

    It reads one part of the index of the instants. But if each sender has many messages there, it
    reads for each sender a part of the index of the senders, which is faster.
    """
    if messages < totals.senders * _ROWS_PER_SEEK:
        return (
            f"SELECT m.from_msisdn, {sign} FROM messages m INDEXED BY messages_by_instant"
            f" WHERE m.id <= ? AND {_WINDOW}"
        )
    return (
        f"SELECT s.from_msisdn, {sign} * (SELECT count(*) FROM messages m"
        f" WHERE m.from_msisdn = s.from_msisdn AND m.id <= ? AND {_WINDOW}) FROM senders s"
    )


def _edge(db: Connection, conditions: Conditions, order: Order) -> str | None:
    """Return the `ts` of the first of `rows` in `order`."""
    row = db.execute(
        f"SELECT ts FROM messages m WHERE {conditions.where} ORDER BY {order.sql} LIMIT 1",
        conditions.parameters,
    ).fetchone()
    return row[0] if row else None
