"""The messages that the inbox shows: pages in both directions, newest first; which are new."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, NamedTuple

from pydantic import Field
from pydantic_core import from_json

from webhook_api.models import (
    MAX_INTEGER,
    Cursor,
    CursorText,
    MessageFilter,
    MessageQuery,
    WholeNumber,
)
from webhook_api.reading.conditions import CountCache, Order, conditions_of
from webhook_api.reading.listing import MessagePage, StoredMessage, list_messages, takes_long
from webhook_api.reading.search import Phrase
from webhook_api.store.connections import Connection

PAGE_ROWS = 50
MAX_NEW = 100  # at most so many messages are read and reported as new
_MAX_PAYLOAD_CHARS = 16 * 1024  # of a payload that is read for a list


class InboxQuery(MessageFilter):
    """A page of the inbox: the newest that match, or those before or after a cursor."""

    order: Literal["arrival", "ts"] = "arrival"
    older: CursorText | None = None
    newer: CursorText | None = None


class ArrivalsQuery(MessageFilter):
    """Which messages are new: those that arrived after the row `above`."""

    above: Annotated[int, Field(ge=0, le=MAX_INTEGER), WholeNumber]


class InboxPage(NamedTuple):
    """Some messages, newest first; `older` and `newer` are the cursors of the pages beside it."""

    messages: list[StoredMessage]
    total: int
    older: str | None
    newer: str | None


def page_takes_long(query: InboxQuery) -> bool:
    """Whether the cost of the page grows with the data, or is high."""
    in_time = query.since is not None or query.until is not None
    sorts = query.order == "arrival" and (query.from_msisdn is not None or in_time)
    return takes_long(_as_listed(query, None)) or (sorts and query.message_id is None)


def list_inbox(db: Connection, query: InboxQuery, counts: CountCache) -> InboxPage:
    """Return a page. If nothing is newer than the page that was asked for, return the first page.

    The first page is full, if there are enough messages.
    """
    if query.newer and not query.older:
        page = _list(db, query, counts, newer=True)
        if page.next_cursor:
            messages = page.messages[::-1]
            back = messages[-1].cursor.encode() if messages else None
            return InboxPage(messages, page.total, older=back, newer=page.next_cursor.encode())
        query = query.model_copy(update={"newer": None})
    page = _list(db, query, counts)
    older = page.next_cursor.encode() if page.next_cursor else None
    newer = page.messages[0].cursor.encode() if query.older and page.messages else None
    return InboxPage(page.messages, page.total, older, newer)


def _list(
    db: Connection, query: InboxQuery, counts: CountCache, *, newer: bool = False
) -> MessagePage:
    listed = _as_listed(query, query.newer if newer else query.older)
    order = Order(newest_first=not newer)
    if query.order == "arrival":
        # A `ts` may be anything: with messages of the year 9999, nobody would see a new one.
        # The plus keeps SQLite from reading rows in this order, for what an index can say.
        column = "+m.id" if conditions_of(listed).terms else "m.id"
        order = Order((column,), newest_first=not newer)
    return list_messages(db, listed, counts, order)


def _as_listed(query: InboxQuery, cursor: Cursor | None) -> MessageQuery:
    filters = {name: getattr(query, name) for name in MessageFilter.model_fields}
    return MessageQuery.model_construct(**filters, cursor=cursor, limit=PAGE_ROWS, offset=0)


def newest_id(db: Connection) -> int:
    """Return the id of the message that arrived last; 0 if there is none."""
    return int(db.execute("SELECT coalesce(max(id), 0) FROM messages").fetchone()[0])


def count_new(db: Connection, wanted: ArrivalsQuery) -> int:
    """Return how many of the first `MAX_NEW` rows after the row `wanted.above` match."""
    matching = conditions_of(wanted)
    if wanted.q:
        matching &= Phrase(db, wanted.q).conditions
    found = db.execute(
        "SELECT count(*) FROM (SELECT * FROM messages WHERE id > ? ORDER BY id LIMIT ?) m"
        f" WHERE {matching.sql}",
        [wanted.above, MAX_NEW, *matching.parameters],
    )
    return int(found.fetchone()[0])


def describe_kind(kind: str | None, payload: object) -> str:
    """Return `image, image/jpeg`, or `document, application/pdf, bill.pdf`; empty: not known."""
    content: Mapping[str, object] = payload if isinstance(payload, dict) else {}
    media = content.get(kind or "")
    media = media if isinstance(media, dict) else {}
    types = [value for name, value in content.items() if name.startswith("MediaContentType")]
    parts = [kind, media.get("mime_type"), *types, media.get("filename")]
    return ", ".join(part for part in parts if isinstance(part, str) and part)


def kinds_of(db: Connection, row_ids: Sequence[int]) -> dict[int, str]:
    """Return what the messages of these rows are, of those where it is known and no text."""
    rows = db.execute(
        "SELECT id, kind, CASE WHEN length(payload) <= ? THEN payload END FROM messages"
        f" WHERE id IN ({', '.join('?' * len(row_ids))}) AND kind <> 'text'",
        [_MAX_PAYLOAD_CHARS, *row_ids],
    )
    return {
        row_id: describe_kind(kind, from_json(payload) if payload else None)
        for row_id, kind, payload in rows
    }
