"""Stored messages as the API shows them: one, a page in the order of the instants, or a stream."""

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, NamedTuple

from pydantic_core import from_json

from webhook_api.models import Cursor, MessageFilter, MessageQuery
from webhook_api.reading.conditions import (
    OLDEST_FIRST,
    Conditions,
    CountCache,
    Order,
    Position,
    conditions_by_index,
    conditions_by_row,
    conditions_of,
    count_messages,
    count_takes_long,
    in_window,
    load_position,
)
from webhook_api.reading.search import Phrase, PhraseSearch
from webhook_api.responses import CompleteMessage, Message
from webhook_api.store.connections import Connection
from webhook_api.store.counting import count_before, read_totals, seek
from webhook_api.timestamps import Instant

NDJSON = "application/x-ndjson"  # the media type of `StoredMessage.as_line`
# Of a `StoredMessage`.
COLUMNS = "m.message_id, m.from_msisdn, m.to_msisdn, m.ts, m.text, m.seconds, m.nanos, m.id"

_encode = json.JSONEncoder(ensure_ascii=False).encode
# JSON allows these in a text, but some programs would split the line there, and a terminal would
# obey some of them: C1 and bidirectional controls.
_CONTROLS = {
    code: f"\\u{code:04x}"
    for code in (
        *range(0x7F, 0xA0), 0x61C, 0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A),
    )
}  # fmt: skip
_NEAR_ROWS = 1000  # skipping these takes no longer than waiting for other reads
_CHUNK_ROWS = 1000  # of a stream, read in a few milliseconds
CHUNK_CHARS = 128 * 1024  # a chunk ends when its ids and texts have so many characters


def _as_json(message_id: str, sender: str, to: str, ts: str, text: str | None) -> Message:
    """Return the JSON object of a message, which is also a valid body of POST /webhook."""
    return {"message_id": message_id, "from": sender, "to": to, "ts": ts, "text": text}


class StoredMessage(NamedTuple):
    """A message of a list, and where the next page starts after it."""

    message_id: str
    from_msisdn: str
    to_msisdn: str
    ts: str
    text: str | None
    cursor: Cursor

    @classmethod
    def from_row(cls, row: Sequence[Any]) -> "StoredMessage":
        """Build from `COLUMNS`."""
        message_id, sender, receiver, ts, text, seconds, nanos, row_id = row
        cursor = Cursor(Instant(seconds, nanos), row_id)
        return cls(message_id, sender, receiver, ts, text, cursor)

    def as_json(self) -> Message:
        return _as_json(*self[:5])

    def as_line(self, **more: object) -> bytes:
        """Return `as_json` and `more` as a line of NDJSON, readable in every script."""
        return _encode({**self.as_json(), **more}).translate(_CONTROLS).encode() + b"\n"


class CompleteRow(NamedTuple):
    """A row of the table of messages."""

    message_id: str
    from_msisdn: str
    to_msisdn: str
    ts: str
    text: str | None
    created_at: str
    provider: str
    kind: str | None
    payload: str | None

    def as_json(self) -> Message:
        return _as_json(*self[:5])

    def as_complete_json(self) -> CompleteMessage:
        return {
            **self.as_json(),
            "received_at": self.created_at,
            "provider": self.provider,
            "kind": self.kind,
            "payload": self.content,
        }

    @property
    def content(self) -> Any:
        """The provider's object for the message; None if there is none."""
        return from_json(self.payload) if self.payload else None


COMPLETE_COLUMNS = ", ".join(CompleteRow._fields)


def read_messages(db: Connection, ids: Sequence[int], order: Order) -> list[StoredMessage]:
    """Return the messages of the rows with these ids, in order."""
    found = db.execute(
        f"SELECT {COLUMNS} FROM messages m"
        f" WHERE m.id IN ({', '.join('?' * len(ids))}) ORDER BY {order.sql}",
        ids,
    )
    return [StoredMessage.from_row(row) for row in found]


def find_message(db: Connection, key: str | int) -> CompleteRow | None:
    """Return the message with this `message_id`, or of the row with this number; None: no such."""
    column = "id" if isinstance(key, int) else "message_id"
    row = db.execute(
        f"SELECT {COMPLETE_COLUMNS} FROM messages WHERE {column} = ?", [key]
    ).fetchone()
    return CompleteRow(*row) if row else None


class MessagePage(NamedTuple):
    """One page, how many messages match in all, and where the next page starts if there is one."""

    messages: list[StoredMessage]
    total: int
    next_cursor: Cursor | None


def takes_long(query: MessageQuery) -> bool:
    """Whether the cost of a page grows with the data: it is neither counted nor near the start."""
    if query.message_id is not None:
        return False  # one row at most
    return query.q is not None or count_takes_long(query) or query.offset > _NEAR_ROWS


def list_messages(
    db: Connection, query: MessageQuery, counts: CountCache, order: Order = OLDEST_FIRST
) -> MessagePage:
    """Return one page of the messages that match, in `order`, and the count of all of them.

    A cursor leads on in this order.

    Page and count come from one snapshot (spec 2, "Ordering" and "Response shape"). `counts`
    remembers the counts of searches.
    """
    matching = on_page = conditions_of(query)
    if query.cursor:
        on_page = conditions_of(query, load_position(db, query.cursor), order)
    search = None
    with read_totals(db) as totals:
        total = count_messages(db, query, matching, totals, counts)
        if query.q and total:
            search = PhraseSearch(db, query.q, matching, total, totals)
            total = search.count(counts)
        if query.offset >= total:
            return MessagePage([], total, None)
        # One more than asked for, to know whether there is a next page.
        if search:
            ids = search.ids(query, on_page, order, total)
        else:
            ids = _ids(db, query, on_page, order)
        messages = read_messages(db, ids, order)
    page = messages[: query.limit]
    return MessagePage(page, total, page[-1].cursor if len(messages) > query.limit else None)


def _ids(db: Connection, query: MessageQuery, on_page: Conditions, order: Order) -> list[int]:
    """Return the ids of a page without `q`, read from an index alone."""
    offset = query.offset
    of_all = query.from_msisdn is None and query.message_id is None and not query.reads_all
    if of_all and offset > _NEAR_ROWS and query.cursor is None and order == OLDEST_FIRST:
        # Far from the start, the counters say where the page begins.
        earlier = count_before(db, query.since.instant) if query.since else 0
        start, skipped = seek(db, earlier + offset)
        offset += earlier - skipped
        on_page = in_window(start, query.until.instant if query.until else None)
    found = db.execute(
        f"SELECT m.id FROM messages m WHERE {on_page.sql} ORDER BY {order.sql} LIMIT ? OFFSET ?",
        [*on_page.parameters, query.limit + 1, offset],
    )
    return [row_id for (row_id,) in found]


def stream_messages(db: Connection, wanted: MessageFilter) -> Iterator[StoredMessage]:
    """Yield all messages that match, oldest first, in constant memory; see `stream_chunks`."""
    return chain.from_iterable(stream_chunks(db, wanted))


def stream_chunks(db: Connection, wanted: MessageFilter) -> Iterator[list[StoredMessage]]:
    """Yield all messages that match, oldest first, a chunk at a time; a chunk may be empty.

    Every chunk costs about the same, even if few rows match, so that a stream can be stopped
    between two. Each is read in a short snapshot of its own, so that checkpoints need not wait
    for a slow client. A message that is stored at the start comes exactly once; one that is
    stored later comes if its position in the order is still ahead.
    """
    hit = conditions_by_row(wanted)
    if wanted.q:
        hit &= Phrase(db, wanted.q).conditions
    after = None
    while True:
        rows = conditions_by_index(wanted, after)
        found = db.execute(
            f"SELECT {hit.sql}, {COLUMNS} FROM messages m WHERE {rows.sql}"
            f" ORDER BY {OLDEST_FIRST.sql} LIMIT ?",
            [*hit.parameters, *rows.parameters, _CHUNK_ROWS],
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
