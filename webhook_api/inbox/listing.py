"""Pages of the inbox, newest first, both ways; one message; and how many are new."""

from typing import NamedTuple

from webhook_api.models import CursorText, MessageFilter, MessageQuery
from webhook_api.reading.counts import CountCache
from webhook_api.reading.listing import StoredMessage, list_messages
from webhook_api.reading.rows import Rows
from webhook_api.reading.search import Phrase
from webhook_api.replies import Message
from webhook_api.store.connections import Connection

PAGE_ROWS = 50
MOST_NEW = 100  # are looked at, and told


class InboxQuery(MessageFilter):
    """A page of the inbox: the newest that match, or those before or after a cursor."""

    older: CursorText | None = None
    newer: CursorText | None = None


class InboxPage(NamedTuple):
    """Some messages, newest first; `older` and `newer` are the cursors of the pages beside it."""

    messages: list[StoredMessage]
    total: int
    older: str | None
    newer: str | None


def list_inbox(db: Connection, query: InboxQuery, counts: CountCache) -> InboxPage:
    """Return a page. The way to newer ones ends on the first page, which is full if it can be.

    Raises:
        sqlite3.Error: the database cannot be read.
    """
    if query.newer and not query.older:
        page = list_messages(db, as_listed(query, newer=True), counts)
        if page.next_cursor:
            messages = page.messages[::-1]
            ends = messages[-1].cursor, messages[0].cursor
            return InboxPage(messages, page.total, *(end.encode() for end in ends))
        query = query.model_copy(update={"newer": None})
    page = list_messages(db, as_listed(query), counts, newest_first=True)
    older = page.next_cursor.encode() if page.next_cursor else None
    newer = page.messages[0].cursor.encode() if query.older and page.messages else None
    return InboxPage(page.messages, page.total, older, newer)


def as_listed(query: InboxQuery, *, newer: bool = False) -> MessageQuery:
    """Return what `list_messages` is asked for."""
    filters = {name: getattr(query, name) for name in MessageFilter.model_fields}
    cursor = query.newer if newer else query.older
    return MessageQuery.model_construct(**filters, cursor=cursor, limit=PAGE_ROWS, offset=0)


def newest_id(db: Connection) -> int:
    """Return the id of the message that arrived last; 0 if there is none."""
    return int(db.execute("SELECT coalesce(max(id), 0) FROM messages").fetchone()[0])


def count_new(db: Connection, wanted: MessageFilter, above: int) -> int:
    """Return how many of the first rows that arrived after the row `above` match."""
    rows = Rows.matching(wanted)
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
        return {
            "message_id": self.message_id,
            "from": self.from_msisdn,
            "to": self.to_msisdn,
            "ts": self.ts,
            "text": self.text,
        }


def find_message(db: Connection, row_id: int) -> WholeMessage | None:
    """Return the message of a row, None if there is no such row."""
    row = db.execute(
        f"SELECT {', '.join(WholeMessage._fields)} FROM messages WHERE id = ?", [row_id]
    ).fetchone()
    return WholeMessage(*row) if row else None
