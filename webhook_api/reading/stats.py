"""The statistics of GET /stats: how many messages, of which senders, and when (spec 3)."""

from collections.abc import Sequence

from webhook_api.models import StatsQuery
from webhook_api.reading.conditions import (
    OLDEST_FIRST,
    Conditions,
    Order,
    Window,
    conditions_of,
    count_between,
    window_of,
)
from webhook_api.responses import TOP_SENDERS, Statistics
from webhook_api.store.connections import Connection
from webhook_api.store.counting import Totals, read_totals
from webhook_api.store.indexing import PERIOD_SCALE
from webhook_api.timestamps import Instant

_ROWS_PER_SEEK = 20  # rows of an index that can be read in the time of one seek
_WINDOW = "(m.seconds, m.nanos) >= (?, ?) AND (m.seconds, m.nanos) < (?, ?)"
Ranking = tuple[int, int, list[tuple[str, int]]]  # messages, senders, top senders


def stats_take_long(query: StatsQuery) -> bool:
    """Whether their cost grows with the data: the counters are of all time."""
    return query.since is not None or query.until is not None or query.reads_all


def compute_stats(db: Connection, query: StatsQuery) -> Statistics:
    """Return the statistics of the messages that match, all read from one snapshot (spec 3)."""
    matching = conditions_of(query)
    with read_totals(db) as totals:
        if not matching.terms:
            ranking = totals.messages, totals.senders, top_senders(db)
        elif query.from_msisdn is None and not query.reads_all:
            ranking = _all_senders_between(db, window_of(query), totals)
        else:
            if not stats_take_long(query):
                counted = "messages FROM senders m"
            elif query.from_msisdn is not None:
                counted = "count(*) AS messages FROM messages m"
            else:
                counted = "1 AS messages FROM messages m INDEXED BY messages_by_instant"
            sql = f"SELECT m.from_msisdn, {counted} WHERE {matching.sql}"
            ranking = _ranked(db, sql, matching.parameters)
        orders = (OLDEST_FIRST, Order(newest_first=True))
        first, last = (_edge(db, matching, order) for order in orders)
    total, senders, top = ranking
    return {
        "total_messages": total,
        "senders_count": senders,
        "messages_per_sender": [{"from": sender, "count": count} for sender, count in top],
        "first_message_ts": first,
        "last_message_ts": last,
    }


def top_senders(db: Connection) -> list[tuple[str, int]]:
    """Return the senders with most messages of all time, and how many each has."""
    return db.execute(
        "SELECT from_msisdn, messages FROM senders ORDER BY messages DESC, from_msisdn LIMIT ?",
        [TOP_SENDERS],
    ).fetchall()


def _all_senders_between(db: Connection, window: Window, totals: Totals) -> Ranking:
    """Count each sender's messages in `window`.

    `sender_periods` counts complete periods. At each end of the window, the messages between it
    and the nearest start of a period are counted in an index, and added or subtracted. The few
    rows that are not yet in `sender_periods` are read.
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
    if first >= last or count_between(db, window, totals) <= sum(
        count_between(db, (low, high), totals) for _, low, high in ends
    ):
        parameters[1] = first  # no period at all
        ends = [(1, since, until)]
    for sign, low, high in ends:
        if low < high:
            parts.append(_by_sender(sign, count_between(db, (low, high), totals), totals))
            parameters += [totals.indexed, *low, *high]
    return _ranked(db, " UNION ALL ".join(parts), parameters)


def _ranked(db: Connection, counted: str, parameters: Sequence[object]) -> Ranking:
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
    too_many = count_between(db, (start, instant), totals)
    missing = count_between(db, (instant, end), totals)
    return period if too_many < missing else period + 1


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


def _edge(db: Connection, matching: Conditions, order: Order) -> str | None:
    """Return the `ts` of the first message that matches, in `order`."""
    row = db.execute(
        f"SELECT ts FROM messages m WHERE {matching.sql} ORDER BY {order.sql} LIMIT 1",
        matching.parameters,
    ).fetchone()
    return row[0] if row else None
