"""Pages of messages: which rows match, in the order of their instants, and how many there are."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, NamedTuple

from webhook_api.counting import Totals, count_before, seek, snapshot
from webhook_api.db import Connection
from webhook_api.models import Cursor, Instant, MessageFilter, MessageQuery
from webhook_api.search import CountCache, Phrase

_ORDER = "m.seconds, m.nanos, m.message_id"
_ROW = "m.message_id, m.from_msisdn, m.to_msisdn, m.ts, m.text, m.seconds, m.nanos, m.id"
NDJSON = "application/x-ndjson"  # the media type of `as_line`s
_FEW_ROWS = 2000  # are searched as fast as the index is asked
_CHUNK_ROWS = 1000  # of a stream: read in a few milliseconds, sent without a snapshot

_encode = json.JSONEncoder(ensure_ascii=False).encode
# Those that JSON allows in a text, and that many a reader would split the line at.
_LINE_BREAKS = {ord(character): f"\\u{ord(character):04x}" for character in "\x85\u2028\u2029"}
_counts = CountCache()


class StoredMessage(NamedTuple):
    """A row as the API shows it, and its place in the order."""

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
        place = Cursor(Instant(seconds, nanos), row_id)
        return cls(message_id, sender, receiver, ts, text, place)

    def as_json(self) -> dict[str, str | None]:
        """Return the JSON object of the API, which POST /webhook takes as well."""
        return {
            "message_id": self.message_id,
            "from": self.from_msisdn,
            "to": self.to_msisdn,
            "ts": self.ts,
            "text": self.text,
        }

    def as_line(self) -> bytes:
        """Return that object as a line of NDJSON, readable in every script."""
        return _encode(self.as_json()).translate(_LINE_BREAKS).encode() + b"\n"


class _Place(NamedTuple):
    """The values of a row that order it among all others."""

    instant: Instant
    message_id: str

    @classmethod
    def of(cls, db: Connection, cursor: Cursor | None) -> "_Place | None":
        """Return where the row of `cursor` stands, or None if there is no cursor.

        A row that was removed meanwhile has lost its name: others of its instant may come again
        then, but none is left out.
        """
        if cursor is None:
            return None
        row = db.execute("SELECT message_id FROM messages WHERE id = ?", [cursor.id]).fetchone()
        return cls(cursor.instant, row[0] if row else "")


class MessagePage(NamedTuple):
    """One page, how many messages match in all, and where the next page starts if there is one."""

    messages: list[StoredMessage]
    total: int
    next_cursor: Cursor | None


@dataclass
class _Rows:
    """Conditions on the rows `m` of messages, joined by AND, and their parameters."""

    conditions: list[str] = field(default_factory=list)
    parameters: list[object] = field(default_factory=list)

    def require(self, condition: str, *parameters: object) -> None:
        self.conditions.append(condition)
        self.parameters += parameters

    @property
    def where(self) -> str:
        return " AND ".join(self.conditions) or "TRUE"

    @classmethod
    def matching(cls, wanted: MessageFilter, after: _Place | None = None) -> "_Rows":
        """Rows of the wanted sender and time, beyond `after`; `q` is left to the caller."""
        rows = cls()
        if wanted.from_msisdn is not None:
            rows.require("m.from_msisdn = ?", wanted.from_msisdn)
        if after is not None:
            rows.require(f"({_ORDER}) > (?, ?, ?)", *after.instant, after.message_id)
        if wanted.since is not None and (after is None or after.instant < wanted.since.instant):
            rows.require("(m.seconds, m.nanos) >= (?, ?)", *wanted.since.instant)
        return rows


def list_messages(db: Connection, query: MessageQuery) -> MessagePage:
    """Return one page of the messages that match, oldest first, and the count of all of them.

    Page and count come from one snapshot (spec 2, "Ordering" and "Response shape").

    Raises:
        sqlite3.Error: the database cannot be read.
    """
    phrase = Phrase(query.q) if query.q else None
    if phrase:
        phrase.prepare(db)
    with snapshot(db) as totals:
        total = candidates = _count(db, query, totals)
        if phrase:
            total = _count_with_phrase(db, query, phrase, totals, candidates)
        if query.offset >= total:
            return MessagePage([], total, None)
        if phrase:
            ids = _ids_with_phrase(db, query, phrase, totals, candidates, total)
        else:
            ids = _ids(db, query)
        # One more than asked for, to know whether a next page follows.
        messages = _read(db, ids)
    page = messages[: query.limit]
    return MessagePage(page, total, page[-1].cursor if len(messages) > query.limit else None)


def stream_messages(db: Connection, wanted: MessageFilter) -> Iterator[StoredMessage]:
    """Yield all messages that match, oldest first, in constant memory; see `stream_chunks`."""
    return chain.from_iterable(stream_chunks(db, wanted))


def stream_chunks(db: Connection, wanted: MessageFilter) -> Iterator[list[StoredMessage]]:
    """Yield all messages that match, oldest first, a chunk at a time; one may be empty.

    Each step costs about the same however few match, so that a reader can be stopped between two.
    Each chunk is read in a short snapshot of its own, so a slow consumer keeps no checkpoint
    waiting. A message that is there at the start comes exactly once; one filed meanwhile comes
    if its place in the order is still ahead.

    Raises:
        sqlite3.Error: the database cannot be read.
    """
    phrase = Phrase(wanted.q) if wanted.q else None
    if phrase:
        phrase.prepare(db)
    hit, parameters = (phrase.condition, [phrase.parameter]) if phrase else ("TRUE", [])
    after = None
    while True:
        rows = _Rows.matching(wanted, after)
        chunk = db.execute(
            f"SELECT {hit}, {_ROW} FROM messages m WHERE {rows.where} ORDER BY {_ORDER} LIMIT ?",
            [*parameters, *rows.parameters, _CHUNK_ROWS],
        ).fetchall()
        hits = [StoredMessage.from_row(row) for is_hit, *row in chunk if is_hit]
        if chunk:
            last = StoredMessage.from_row(chunk[-1][1:])
            after = _Place(last.cursor.instant, last.message_id)
        yield hits
        if len(chunk) < _CHUNK_ROWS:
            return


def _count(db: Connection, wanted: MessageFilter, totals: Totals) -> int:
    """Return how many messages match but for `q`, from counters as far as there are any."""
    if wanted.from_msisdn is None:
        earlier = count_before(db, wanted.since.instant) if wanted.since else 0
        return totals.messages - earlier
    if wanted.since is None:
        row = db.execute(
            "SELECT messages FROM senders WHERE from_msisdn = ?", [wanted.from_msisdn]
        ).fetchone()
        return int(row[0]) if row else 0
    rows = _Rows.matching(wanted)
    return _scalar(db, f"SELECT count(*) FROM messages m WHERE {rows.where}", rows.parameters)


def _ids(db: Connection, query: MessageQuery) -> list[int]:
    """Return the ids of a page without `q`, found in an index alone."""
    rows = _Rows.matching(query, _Place.of(db, query.cursor))
    offset = query.offset
    if query.from_msisdn is None and query.cursor is None and offset > _CHUNK_ROWS:
        # Far from the start, the counters lead to the place.
        earlier = count_before(db, query.since.instant) if query.since else 0
        start, skipped = seek(db, earlier + offset)
        if start is not None:
            rows = _Rows()
            rows.require("(m.seconds, m.nanos) >= (?, ?)", *start)
            offset = earlier + offset - skipped
    found = db.execute(
        f"SELECT m.id FROM messages m WHERE {rows.where} ORDER BY {_ORDER} LIMIT ? OFFSET ?",
        [*rows.parameters, query.limit + 1, offset],
    )
    return [row_id for (row_id,) in found]


def _read(db: Connection, ids: Sequence[int]) -> list[StoredMessage]:
    marks = ", ".join("?" * len(ids))
    sql = f"SELECT {_ROW} FROM messages m WHERE m.id IN ({marks}) ORDER BY {_ORDER}"
    return [StoredMessage.from_row(row) for row in db.execute(sql, ids)]


def _hits(phrase: Phrase, totals: Totals, above: int = 0) -> tuple[str, list[object]]:
    """Return SQL for the ids above `above` whose text has an indexed phrase, and its parameters.

    The index answers for the rows up to `totals.indexed`, the few newer ones are read.
    """
    exact = "" if phrase.match_is_exact else f" AND {phrase.condition}"
    sql = (
        "SELECT s.rowid AS id FROM messages_search s"
        + (" CROSS JOIN messages m ON m.id = s.rowid" if exact else "")
        + f" WHERE s.messages_search MATCH ? AND s.rowid > ?{exact}"
        + f" UNION ALL SELECT m.id FROM messages m WHERE m.id > ? AND {phrase.condition}"
    )
    parameters: list[object] = [phrase.match, above]
    if exact:
        parameters.append(phrase.parameter)
    return sql, [*parameters, max(above, totals.indexed), phrase.parameter]


def _by_index(phrase: Phrase, totals: Totals, candidates: int) -> bool:
    """Whether to ask the search index, and not the few rows that the other filters leave."""
    return phrase.indexed and (candidates > _FEW_ROWS or candidates == totals.messages)


def _count_with_phrase(
    db: Connection, wanted: MessageFilter, phrase: Phrase, totals: Totals, candidates: int
) -> int:
    rows = _Rows.matching(wanted)

    def count_after(row_id: int) -> int:
        if not _by_index(phrase, totals, candidates):
            sql = f"SELECT count(*) FROM messages m WHERE m.id > ? AND {phrase.condition}"
            sql += f" AND {rows.where}"
            return _scalar(db, sql, [row_id, phrase.parameter, *rows.parameters])
        hits, parameters = _hits(phrase, totals, above=row_id)
        sql = f"SELECT count(*) FROM ({hits}) hit"
        if rows.conditions:
            sql += f" CROSS JOIN messages m ON m.id = hit.id WHERE {rows.where}"
        return _scalar(db, sql, [*parameters, *rows.parameters])

    return _counts.count(
        (db.identity, phrase.text, wanted.from_msisdn, wanted.since),
        deletions=totals.deletions,
        last_id=_scalar(db, "SELECT coalesce(max(id), 0) FROM messages", []),
        count_after=count_after,
    )


def _ids_with_phrase(
    db: Connection,
    query: MessageQuery,
    phrase: Phrase,
    totals: Totals,
    candidates: int,
    total: int,
) -> list[int]:
    """Return the ids of a page with `q`, `total` of `candidates`, in the shorter of two ways.

    Sorting all hits costs as much as there are; walking the rows in order until the page is
    full costs less the more of them are hits. A walk ends after as many rows as there are hits,
    for they may all lie at the far end.
    """
    wanted_rows = query.offset + query.limit + 1
    by_index = _by_index(phrase, totals, candidates)
    if by_index and total * total <= wanted_rows * candidates:
        return _sorted_hits(db, query, phrase, totals)
    budget = max(total, _CHUNK_ROWS) if by_index else candidates
    rows = _Rows.matching(query, _Place.of(db, query.cursor))
    walked = db.execute(
        "SELECT m.id FROM (SELECT m.id, m.text, m.folded FROM messages m"
        f" WHERE {rows.where} ORDER BY {_ORDER} LIMIT ?) m WHERE {phrase.condition}"
        " LIMIT ? OFFSET ?",
        [*rows.parameters, budget, phrase.parameter, query.limit + 1, query.offset],
    )
    ids = [row_id for (row_id,) in walked]
    if len(ids) > query.limit or budget >= candidates:
        return ids
    unwalked = f"SELECT 1 FROM messages m WHERE {rows.where} ORDER BY {_ORDER} LIMIT 1 OFFSET ?"
    if db.execute(unwalked, [*rows.parameters, budget]).fetchone() is None:
        return ids
    return _sorted_hits(db, query, phrase, totals)


def _sorted_hits(db: Connection, query: MessageQuery, phrase: Phrase, totals: Totals) -> list[int]:
    hits, parameters = _hits(phrase, totals)
    rows = _Rows.matching(query, _Place.of(db, query.cursor))
    found = db.execute(
        f"SELECT m.id FROM ({hits}) hit CROSS JOIN messages m ON m.id = hit.id"
        f" WHERE {rows.where} ORDER BY {_ORDER} LIMIT ? OFFSET ?",
        [*parameters, *rows.parameters, query.limit + 1, query.offset],
    )
    return [row_id for (row_id,) in found]


def _scalar(db: Connection, sql: str, parameters: Sequence[object]) -> int:
    value: int = db.execute(sql, parameters).fetchone()[0]
    return value
