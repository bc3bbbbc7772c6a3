"""Pages of the inbox, newest first, both ways; one message; and how many are new."""

import re
from typing import Annotated, NamedTuple

from pydantic import BeforeValidator, Field

from webhook_api.models import (
    Cursor,
    CursorText,
    MessageFilter,
    MessageQuery,
    UtcTimestamp,
    WantedNumber,
)
from webhook_api.reading.count_cache import CountCache
from webhook_api.reading.listing import StoredMessage, list_messages, takes_long
from webhook_api.reading.phrase import Phrase
from webhook_api.reading.receivers import list_receiver
from webhook_api.reading.rows import Rows
from webhook_api.replies import Message, message_reply
from webhook_api.store.connections import Connection

PAGE_ROWS = 50
MOST_NEW = 100  # at most so many are looked at and reported
_SHORT_TIME = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})(?:[ T]([0-9]{2}:[0-9]{2})(:[0-9]{2}(?:\.[0-9]{1,9})?)?)?Z?"
)


def _whole_time(value: object) -> object:
    # People type a day, or a day and a time.
    found = _SHORT_TIME.fullmatch(value) if isinstance(value, str) else None
    return f"{found[1]}T{found[2] or '00:00'}{found[3] or ':00'}Z" if found else value


_Time = Annotated[UtcTimestamp, BeforeValidator(_whole_time)]


class InboxFilter(MessageFilter):
    """What is shown, and what is new: as the API filters, and by the receiver."""

    since: _Time | None = None
    until: _Time | None = None
    to_msisdn: WantedNumber | None = Field(None, alias="to")


class InboxQuery(InboxFilter):
    """A page of the inbox: the newest that match, or those before or after a cursor."""

    older: CursorText | None = None
    newer: CursorText | None = None


class InboxPage(NamedTuple):
    """Some messages, newest first; `older` and `newer` are the cursors of the pages beside it."""

    messages: list[StoredMessage]
    total: int | None  # None: nobody counts the messages to one receiver
    older: str | None
    newer: str | None
    gave_up: bool = False  # see `ReceiverPage`


class _Page(NamedTuple):
    messages: list[StoredMessage]
    total: int | None
    next_cursor: Cursor | None
    gave_up: bool


def list_inbox(db: Connection, query: InboxQuery, counts: CountCache) -> InboxPage:
    """Return a page. Going to newer pages ends at the first one, filled up with older messages.

    Raises:
        sqlite3.Error: the database cannot be read.
    """
    if query.newer and not query.older:
        page = _list(db, query, counts, newer=True)
        if page.next_cursor:
            messages = page.messages[::-1]
            back = messages[-1].cursor.encode() if messages else None
            on = page.next_cursor.encode()
            return InboxPage(messages, page.total, older=back, newer=on, gave_up=page.gave_up)
        query = query.model_copy(update={"newer": None})
    page = _list(db, query, counts)
    older = page.next_cursor.encode() if page.next_cursor else None
    newer = page.messages[0].cursor.encode() if query.older and page.messages else None
    return InboxPage(page.messages, page.total, older, newer, page.gave_up)


def _list(db: Connection, query: InboxQuery, counts: CountCache, *, newer: bool = False) -> _Page:
    asked = _as_listed(query, query.newer if newer else query.older)
    if query.to_msisdn is not None:
        to_one = list_receiver(db, asked, query.to_msisdn, newest_first=not newer)
        return _Page(to_one.messages, None, to_one.next_cursor, to_one.gave_up)
    page = list_messages(db, asked, counts, newest_first=not newer)
    return _Page(*page, gave_up=False)


def page_takes_long(query: InboxQuery) -> bool:
    """Whether the cost of the page grows with the data, or is high."""
    return query.to_msisdn is not None or takes_long(_as_listed(query, None))


def _as_listed(query: InboxQuery, cursor: Cursor | None) -> MessageQuery:
    filters = {name: getattr(query, name) for name in MessageFilter.model_fields}
    return MessageQuery.model_construct(**filters, cursor=cursor, limit=PAGE_ROWS, offset=0)


def newest_id(db: Connection) -> int:
    """Return the id of the message that arrived last; 0 if there is none."""
    return int(db.execute("SELECT coalesce(max(id), 0) FROM messages").fetchone()[0])


def count_new(db: Connection, wanted: InboxFilter, above: int) -> int:
    """Return how many of the first rows that arrived after the row `above` match."""
    rows = Rows.matching(wanted)
    if wanted.to_msisdn is not None:
        rows.require("m.to_msisdn = ?", wanted.to_msisdn)
    if wanted.q:
        phrase = Phrase(wanted.q)
        phrase.prepare(db)
        rows.require(phrase.condition, *phrase.parameters)
    found = db.execute(
        "SELECT count(*) FROM (SELECT * FROM messages WHERE id > ? ORDER BY id LIMIT ?) m"
        f" WHERE {rows.where}",
        [above, MOST_NEW, *rows.parameters],
    )
    return int(found.fetchone()[0])


class WholeMessage(NamedTuple):
    """One message with all that is stored of it."""

    message_id: str
    from_msisdn: str
    to_msisdn: str
    ts: str
    text: str | None
    created_at: str

    def as_json(self) -> Message:
        """Return the JSON object of the API."""
        return message_reply(*self[:5])


def find_message(db: Connection, row_id: int) -> WholeMessage | None:
    """Return the message of a row, None if there is no such row."""
    row = db.execute(
        f"SELECT {', '.join(WholeMessage._fields)} FROM messages WHERE id = ?", [row_id]
    ).fetchone()
    return WholeMessage(*row) if row else None
