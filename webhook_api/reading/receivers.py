"""The messages to one receiver. There is no index for them: each page looks through many rows."""

from typing import NamedTuple

from webhook_api.models import Cursor, MessageQuery
from webhook_api.reading.listing import StoredMessage, read_messages
from webhook_api.reading.phrase import Phrase
from webhook_api.reading.rows import NEWEST_FIRST, ORDER, Position, Rows
from webhook_api.store.connections import Connection
from webhook_api.store.transactions import read_transaction
from webhook_api.timestamps import Instant

LOOKED_AT = 100_000  # messages that are looked through for one page, at most


class ReceiverPage(NamedTuple):
    """The messages found, and where the next page starts.

    `gave_up`: the page is not full, because the maximum of messages was looked through.
    """

    messages: list[StoredMessage]
    next_cursor: Cursor | None
    gave_up: bool


def list_receiver(
    db: Connection,
    query: MessageQuery,
    to_msisdn: str,
    *,
    newest_first: bool,
    most: int = LOOKED_AT,
) -> ReceiverPage:
    """Return the messages to a receiver among the first `most` that match `query`, from its cursor.

    The cost is bounded, even if there are few or none. They are not counted.

    Raises:
        sqlite3.Error: the database cannot be read.
    """
    order = NEWEST_FIRST if newest_first else ORDER
    wanted = Rows()
    wanted.require("m.to_msisdn = ?", to_msisdn)
    if query.q:
        phrase = Phrase(query.q)
        phrase.prepare(db)
        wanted.require(phrase.condition, *phrase.parameters)
    with read_transaction(db):
        looked_at = Rows.matching(query, Position.of(db, query.cursor), newest_first=newest_first)
        found = db.execute(
            "SELECT m.id FROM (SELECT m.id, m.to_msisdn, m.text, m.folded FROM messages m"
            f" WHERE {looked_at.where} ORDER BY {order} LIMIT ?) m WHERE {wanted.where} LIMIT ?",
            [*looked_at.parameters, most, *wanted.parameters, query.limit + 1],
        ).fetchall()
        messages = read_messages(db, [row_id for (row_id,) in found], newest_first)
        if len(messages) > query.limit:
            page = messages[: query.limit]
            return ReceiverPage(page, page[-1].cursor, gave_up=False)
        last = db.execute(
            "SELECT m.seconds, m.nanos, m.id FROM messages m"
            f" WHERE {looked_at.where} ORDER BY {order} LIMIT 1 OFFSET ?",
            [*looked_at.parameters, most - 1],
        ).fetchone()
    if last is None:
        return ReceiverPage(messages, None, gave_up=False)
    seconds, nanos, row_id = last
    return ReceiverPage(messages, Cursor(Instant(seconds, nanos), row_id), gave_up=True)
