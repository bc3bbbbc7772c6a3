"""Pages of messages: which rows match, in the order of their instants, and how many there are."""

import json
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import chain
from typing import Any, NamedTuple

from webhook_api.models import Cursor, MessageFilter, MessageQuery
from webhook_api.reading.conditions import OLDEST_FIRST, Conditions, Order, Position, load_position
from webhook_api.reading.count_cache import CountCache
from webhook_api.reading.phrase import Phrase
from webhook_api.reading.search import PhraseSearch
from webhook_api.responses import Message, message_object
from webhook_api.store.connections import Connection
from webhook_api.store.counting import Totals, count_before, read_totals, seek
from webhook_api.timestamps import Instant

_ROW = "m.message_id, m.from_msisdn, m.to_msisdn, m.ts, m.text, m.seconds, m.nanos, m.id"
NDJSON = "application/x-ndjson"  # the media type of `as_line`s
_NEAR_ROWS = 1000  # skipping these takes no longer than waiting for a turn
_CHUNK_ROWS = 1000  # of a stream, read in a few milliseconds
CHUNK_CHARS = 128 * 1024  # a chunk ends when its ids and texts have so many characters

_encode = json.JSONEncoder(ensure_ascii=False).encode
# JSON allows these in a text, but some programs would split the line there, and a terminal would
# obey some of them: C1 and bidirectional controls.
_CONTROLS = {
    code: f"\\u{code:04x}"
    for code in (
        *range(0x7F, 0xA0), 0x61C, 0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A),
    )
}  # fmt: skip


class StoredMessage(NamedTuple):
    """A row as the API shows it, and its position in the order."""

    message_id: str
    from_msisdn: str
    to_msisdn: str
    ts: str
    text: str | None
    cursor: Cursor

    @classmethod
    def from_row(cls, row: Sequence[Any]) -> "StoredMessage":
        """Build from the columns of `_ROW`."""
        message_id, sender, receiver, ts, text, seconds, nanos, row_id = row
        cursor = Cursor(Instant(seconds, nanos), row_id)
        return cls(message_id, sender, receiver, ts, text, cursor)

    def as_json(self) -> Message:
        """Return the JSON object of the API."""
        return message_object(*self[:5])

    def as_line(self, **more: object) -> bytes:
        """Return that object and `more` as a line of NDJSON, readable in every script."""
        return _encode({**self.as_json(), **more}).translate(_CONTROLS).encode() + b"\n"


class MessagePage(NamedTuple):
    """One page, how many messages match in all, and where the next page starts if there is one."""

    messages: list[StoredMessage]
    total: int
    next_cursor: Cursor | None


def takes_long(query: MessageQuery) -> bool:
    """Whether the cost of `query` grows with the data: neither counters nor an index answer it."""
    if query.message_id is not None:
        return False  # one row at most
    in_time = query.since is not None or query.until is not None
    counted = (query.from_msisdn is None or not in_time) and not query.reads_all
    return query.q is not None or not counted or query.offset > _NEAR_ROWS


def list_messages(
    db: Connection, query: MessageQuery, counts: CountCache, order: Order = OLDEST_FIRST
) -> MessagePage:
    """Return one page of the messages that match, in `order`, and the count of all of them.

    A cursor leads on in this order.

    Page and count come from one snapshot (spec 2, "Ordering" and "Response shape"). `counts`
    remembers the counts of searches.

    Raises:
        sqlite3.Error: the database cannot be read.
    """
    phrase = Phrase(query.q) if query.q else None
    if phrase:
        phrase.prepare(db)
    with read_totals(db) as totals:
        total = _count(db, query, totals, counts)
        search = PhraseSearch(db, query, phrase, totals, total, order) if phrase else None
        if search:
            total = search.count(counts)
        if query.offset >= total:
            return MessagePage([], total, None)
        ids = search.ids(query, total) if search else _ids(db, query, order)
        # One more than asked for, to know whether there is a next page.
        messages = read_messages(db, ids, order)
    page = messages[: query.limit]
    return MessagePage(page, total, page[-1].cursor if len(messages) > query.limit else None)


def read_messages(db: Connection, ids: Sequence[int], order: Order) -> list[StoredMessage]:
    """Return the rows with these ids, in order."""
    marks = ", ".join("?" * len(ids))
    sql = f"SELECT {_ROW} FROM messages m WHERE m.id IN ({marks}) ORDER BY {order.sql}"
    return [StoredMessage.from_row(row) for row in db.execute(sql, ids)]


def stream_messages(db: Connection, wanted: MessageFilter) -> Iterator[StoredMessage]:
    """Yield all messages that match, oldest first, in constant memory; see `stream_chunks`."""
    return chain.from_iterable(stream_chunks(db, wanted))


def stream_chunks(db: Connection, wanted: MessageFilter) -> Iterator[list[StoredMessage]]:
    """Yield all messages that match, oldest first, a chunk at a time; a chunk may be empty.

    Every chunk costs about the same, even if few rows match, so that a stream can be stopped
    between two. Each is read in a short snapshot of its own, so that checkpoints need not wait
    for a slow client. A message that is stored at the start comes exactly once; one that is
    stored later comes if its position in the order is still ahead.

    Raises:
        sqlite3.Error: the database cannot be read.
    """
    phrase = Phrase(wanted.q) if wanted.q else None
    if phrase:
        phrase.prepare(db)
    hit = Conditions()
    hit.require_others(wanted)
    if phrase:
        hit.require(phrase.condition, *phrase.parameters)
    after = None
    while True:
        conditions = Conditions.found_by_index(wanted, after)
        found = db.execute(
            f"SELECT {hit.where}, {_ROW} FROM messages m WHERE {conditions.where}"
            f" ORDER BY {OLDEST_FIRST.sql} LIMIT ?",
            [*hit.parameters, *conditions.parameters, _CHUNK_ROWS],
        )
        hits, after = _read_chunk(found)
        found.close()  # with its snapshot
        yield hits
        if after is None:
            return


def _read_chunk(found: Iterable[Sequence[Any]]) -> tuple[list[StoredMessage], Position | None]:
    """Return the hits of one chunk, and the position of its last row if others may follow."""
    hits: list[StoredMessage] = []
    chars = 0
    for number, (is_hit, *row) in enumerate(found, 1):
        if is_hit:
            hit = StoredMessage.from_row(row)
            hits.append(hit)
            chars += len(hit.message_id) + len(hit.text or "")
        if chars >= CHUNK_CHARS or number == _CHUNK_ROWS:
            last = StoredMessage.from_row(row)
            return hits, Position(last.cursor.instant, last.message_id, last.cursor.id)
    return hits, None


def _count(db: Connection, wanted: MessageFilter, totals: Totals, counts: CountCache) -> int:
    """Return how many messages match, `q` ignored; from the counters where that is possible."""
    conditions = Conditions.matching(wanted)
    if wanted.message_id is None and wanted.reads_all:
        return counts.count(
            (db.identity, *conditions.key), db, partial(_count_after, db, conditions)
        )
    if wanted.message_id is not None:
        return _count_after(db, conditions, 0)
    if wanted.from_msisdn is None:
        earlier = count_before(db, wanted.since.instant) if wanted.since else 0
        until = count_before(db, wanted.until.instant) if wanted.until else totals.messages
        return max(0, until - earlier)
    if wanted.since is None and wanted.until is None:
        row = db.execute(
            "SELECT messages FROM senders WHERE from_msisdn = ?", [wanted.from_msisdn]
        ).fetchone()
        return int(row[0]) if row else 0
    return _count_after(db, conditions, 0)


def _count_after(db: Connection, conditions: Conditions, row_id: int) -> int:
    """Return how many of the rows above `row_id` match."""
    newer = "NOT INDEXED WHERE m.id > ?" if row_id else "WHERE ? = 0"  # found by id, if few
    sql = f"SELECT count(*) FROM messages m {newer} AND {conditions.where}"
    value: int = db.execute(sql, [row_id, *conditions.parameters]).fetchone()[0]
    return value


def _ids(db: Connection, query: MessageQuery, order: Order) -> list[int]:
    """Return the ids of a page without `q`, read from an index alone."""
    conditions = Conditions.matching(query, load_position(db, query.cursor), order)
    offset = query.offset
    near = query.cursor is not None or offset <= _NEAR_ROWS
    of_all = query.from_msisdn is None and query.message_id is None and not query.reads_all
    if of_all and not near and order == OLDEST_FIRST:
        # Far from the start, the counters say where the page begins.
        earlier = count_before(db, query.since.instant) if query.since else 0
        start, skipped = seek(db, earlier + offset)
        conditions = Conditions()
        conditions.require("(m.seconds, m.nanos) >= (?, ?)", *start)
        if query.until is not None:
            conditions.require("(m.seconds, m.nanos) < (?, ?)", *query.until.instant)
        offset = earlier + offset - skipped
    found = db.execute(
        f"SELECT m.id FROM messages m WHERE {conditions.where}"
        f" ORDER BY {order.sql} LIMIT ? OFFSET ?",
        [*conditions.parameters, query.limit + 1, offset],
    )
    return [row_id for (row_id,) in found]
