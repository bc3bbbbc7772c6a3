"""The statistics of GET /stats: how many messages, from whom, and when (spec 3)."""

from typing import NamedTuple

from webhook_api.counting import Totals, count_before, snapshot
from webhook_api.db import Connection
from webhook_api.models import Instant, StatsQuery

TOP_SENDERS = 10
_FIRST = Instant(-(2**60), 0)
_LAST = Instant(2**60, 0)
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
    db: Connection, from_msisdn: str, window: tuple[Instant, Instant]
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
    db: Connection, window: tuple[Instant, Instant], totals: Totals
) -> tuple[int, int, list[tuple[str, int]]]:
    since, until = window
    total = 0
    if since < until:
        before_until = totals.messages if until == _LAST else count_before(db, until)
        total = before_until - (0 if since == _FIRST else count_before(db, since))
    if total < totals.senders:
        by_sender = (
            "SELECT m.from_msisdn, count(*) AS messages FROM messages m"
            f" INDEXED BY messages_by_instant WHERE {_WINDOW} GROUP BY m.from_msisdn"
        )
    else:
        # Looking up each sender's part of the window reads an index alone.
        by_sender = (
            "SELECT from_msisdn, (SELECT count(*) FROM messages m"
            f" WHERE m.from_msisdn = s.from_msisdn AND {_WINDOW}) AS messages FROM senders s"
        )
    # The window function counts the senders before LIMIT leaves most of them out.
    top = db.execute(
        f"SELECT from_msisdn, messages, count(*) OVER () FROM ({by_sender})"
        " WHERE messages > 0 ORDER BY messages DESC, from_msisdn LIMIT ?",
        [*since, *until, TOP_SENDERS],
    ).fetchall()
    senders = top[0][2] if top else 0
    return total, senders, [(sender, messages) for sender, messages, _ in top]


def _edge(
    db: Connection, from_msisdn: str | None, window: tuple[Instant, Instant], order: str
) -> str | None:
    """Return the `ts` of the first (ASC) or last (DESC) message that matches."""
    sender = "TRUE" if from_msisdn is None else "m.from_msisdn = ?"
    row = db.execute(
        f"SELECT ts FROM messages m WHERE {sender} AND {_WINDOW}"
        f" ORDER BY m.seconds {order}, m.nanos {order}, m.message_id {order} LIMIT 1",
        [*([] if from_msisdn is None else [from_msisdn]), *window[0], *window[1]],
    ).fetchone()
    return row[0] if row else None
