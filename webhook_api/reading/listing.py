"""Pages of messages in the order of their instants, and all of them as a stream."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, NamedTuple

from webhook_api.models import Cursor, MessageFilter, MessageQuery
from webhook_api.reading.conditions import (
    OLDEST_FIRST,
    Conditions,
    Order,
    Position,
    conditions_by_index,
    conditions_by_row,
    conditions_of,
    in_window,
    load_position,
)
from webhook_api.reading.counts import CountCache, count_messages, count_takes_long
from webhook_api.reading.messages import COLUMNS, StoredMessage, read_messages
from webhook_api.reading.search import Phrase, PhraseSearch
from webhook_api.store.connections import Connection
from webhook_api.store.counting import count_before, read_totals, seek

NDJSON = "application/x-ndjson"  # the media type of `StoredMessage.as_line`
_NEAR_ROWS = 1000  # skipping these takes no longer than waiting for other reads
_CHUNK_ROWS = 1000  # of a stream, read in a few milliseconds
CHUNK_CHARS = 128 * 1024  # a chunk ends when its ids and texts have so many characters


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
