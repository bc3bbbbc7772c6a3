"""Pages of the inbox in both directions, those first that arrived last or have the newest `ts`."""

from typing import NamedTuple

from webhook_api.inbox.queries import InboxQuery
from webhook_api.models import Cursor, MessageFilter, MessageQuery
from webhook_api.reading.conditions import Order
from webhook_api.reading.count_cache import CountCache
from webhook_api.reading.listing import MessagePage, StoredMessage, list_messages, takes_long
from webhook_api.store.connections import Connection

PAGE_ROWS = 50


class InboxPage(NamedTuple):
    """Some messages, newest first; `older` and `newer` are the cursors of the pages beside it."""

    messages: list[StoredMessage]
    total: int
    older: str | None
    newer: str | None


def list_inbox(db: Connection, query: InboxQuery, counts: CountCache) -> InboxPage:
    """Return a page. If nothing is newer than the page that was asked for, return the first page.

    The first page is full, if there are enough messages.

    Raises:
        sqlite3.Error: the database cannot be read.
    """
    if query.newer and not query.older:
        page = _list(db, query, counts, newer=True)
        if page.next_cursor:
            messages = page.messages[::-1]
            back = messages[-1].cursor.encode() if messages else None
            on = page.next_cursor.encode()
            return InboxPage(messages, page.total, older=back, newer=on)
        query = query.model_copy(update={"newer": None})
    page = _list(db, query, counts)
    older = page.next_cursor.encode() if page.next_cursor else None
    newer = page.messages[0].cursor.encode() if query.older and page.messages else None
    return InboxPage(page.messages, page.total, older, newer)


def _list(
    db: Connection, query: InboxQuery, counts: CountCache, *, newer: bool = False
) -> MessagePage:
    asked = _as_listed(query, query.newer if newer else query.older)
    return list_messages(db, asked, counts, _order(query, asked, newest_first=not newer))


def _order(query: InboxQuery, asked: MessageQuery, *, newest_first: bool) -> Order:
    # A `ts` may be anything: with messages of the year 9999, nobody would see a new one.
    if query.order == "ts":
        return Order(newest_first=newest_first)
    return Order.of_arrival(asked, newest_first=newest_first)


def page_takes_long(query: InboxQuery) -> bool:
    """Whether the cost of the page grows with the data, or is high."""
    listed = _as_listed(query, None)
    in_time = query.since is not None or query.until is not None
    sorts = query.order == "arrival" and (query.from_msisdn is not None or in_time)
    return takes_long(listed) or (sorts and query.message_id is None)


def _as_listed(query: InboxQuery, cursor: Cursor | None) -> MessageQuery:
    filters = {name: getattr(query, name) for name in MessageFilter.model_fields}
    return MessageQuery.model_construct(**filters, cursor=cursor, limit=PAGE_ROWS, offset=0)
