"""The statistics of GET /stats: how many messages, of which senders, and when (spec 3)."""

from typing import NamedTuple

from webhook_api.models import Instant, StatsQuery
from webhook_api.replies import TOP_SENDERS
from webhook_api.store.connections import Connection
from webhook_api.store.counting import Totals, count_before, snapshot
from webhook_api.store.indexing import PERIOD_SCALE

_FIRST = Instant(-(2**60), 0)  # of no time that a message can have, and the start of a period
_LAST = Instant(2**60, 0)
Window = tuple[Instant, Instant]  # from the first, up to but not including the second
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
    with snapshot(db) as totals:
        if query.from_msisdn is not None:
            total, senders, top = _one_sender(db, query.from_msisdn, window)
        elif query.since or query.until:
            total, senders, top = _all_senders_between(db, window, totals)
        else:
            total, senders, top = totals.messages, totals.senders, _top_of_all_time(db)
        first, last = (_edge(db, query.from_msisdn, window, order) for order in ("ASC", "DESC"))
    return Stats(total, senders, top, first, last)


def _top_of_all_time(db: Connection) -> list[tuple[str, int]]:
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


def _all_senders_between(
    db: Connection, window: Window, totals: Totals
) -> tuple[int, int, list[tuple[str, int]]]:
    """Count each sender's messages in `window`.

    `sender_periods` has the periods that lie wholly in it. What is left at its two ends is
    counted in an index, and the few rows that are not yet in `sender_periods` as they are.
    """
    since, until = window
    if since >= until:
        return 0, 0, []
    first = -(-(since.seconds * 10**9 + since.nanos) // (10**9 << PERIOD_SCALE))
    last = max(first, until.seconds >> PERIOD_SCALE)
    start, end = (Instant(period << PERIOD_SCALE, 0) for period in (first, last))
    parts = [
        "SELECT from_msisdn, messages FROM sender_periods WHERE period >= ? AND period < ?",
        f"SELECT m.from_msisdn, 1 FROM messages m NOT INDEXED WHERE m.id > ? AND {_WINDOW}",
    ]
    parameters: list[object] = [first, last, totals.indexed, *start, *end]
    ends = [window] if start >= end else [(since, start), (end, until)]
    for part in ends:
        if part[0] < part[1]:
            parts.append(_by_sender(db, part, totals))
            parameters += [*part[0], *part[1]]
    # The window functions count before LIMIT leaves most of the senders out.
    top = db.execute(
        "SELECT from_msisdn, sum(messages), count(*) OVER (), sum(sum(messages)) OVER ()"
        f" FROM ({' UNION ALL '.join(parts)}) WHERE messages > 0"
        " GROUP BY from_msisdn ORDER BY sum(messages) DESC, from_msisdn LIMIT ?",
        [*parameters, TOP_SENDERS],
    ).fetchall()
    senders, total = top[0][2:] if top else (0, 0)
    return total, senders, [(sender, messages) for sender, messages, *_ in top]


def _by_sender(db: Connection, window: Window, totals: Totals) -> str:
    """Return SQL that counts each sender's messages in a window, in the shorter of two ways."""
    since, until = window
    messages = (totals.messages if until == _LAST else count_before(db, until)) - (
        0 if since == _FIRST else count_before(db, since)
    )
    if messages < totals.senders:
        return (
            "SELECT m.from_msisdn, 1 AS messages FROM messages m"
            f" INDEXED BY messages_by_instant WHERE {_WINDOW}"
        )
    # Looking up each sender's part of the window reads an index alone.
    return (
        "SELECT s.from_msisdn, (SELECT count(*) FROM messages m"
        f" WHERE m.from_msisdn = s.from_msisdn AND {_WINDOW}) FROM senders s"
    )


def _edge(db: Connection, from_msisdn: str | None, window: Window, order: str) -> str | None:
    """Return the `ts` of the first (ASC) or last (DESC) message that matches."""
    sender = "TRUE" if from_msisdn is None else "m.from_msisdn = ?"
    row = db.execute(
        f"SELECT ts FROM messages m WHERE {sender} AND {_WINDOW}"
        f" ORDER BY m.seconds {order}, m.nanos {order}, m.message_id {order} LIMIT 1",
        [*([] if from_msisdn is None else [from_msisdn]), *window[0], *window[1]],
    ).fetchone()
    return row[0] if row else None
