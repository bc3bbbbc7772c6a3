"""GET /messages: a page of the stored messages, or all of them as a stream; and one of them.

With a position it is the feed: messages in the order of their arrival, each exactly once.
"""

from collections.abc import Callable, Iterator
from functools import partial
from urllib.parse import urlencode

from flask import Blueprint, Response, jsonify, request
from pydantic_core import to_json
from werkzeug.exceptions import Gone, NotFound

from webhook_api.db import current_database, get_db, reader
from webhook_api.execution import Awaited, Executor, execution_of
from webhook_api.models import (
    FeedPosition,
    FeedQuery,
    FeedStart,
    MessageFilter,
    MessageQuery,
    parse_query,
)
from webhook_api.reading.feed import NewMessages, read_feed, stream_feed
from webhook_api.reading.listing import (
    NDJSON,
    find_message,
    list_messages,
    stream_chunks,
    takes_long,
)
from webhook_api.responses import CompleteMessage, FeedPage, Page
from webhook_api.services import current_services
from webhook_api.store.connections import Connection
from webhook_api.store.messages import was_removed
from webhook_api.store.positions import find_consumer, replicated_end
from webhook_api.web.streams import StreamedResponse

_BLOCK_LINES = 200  # sent by one call

bp = Blueprint("messages", __name__)


@bp.get("/messages")
def show_messages() -> Response:
    """Respond with one page, oldest first; with all if the client prefers NDJSON (spec 2)."""
    in_feed = any(request.args.get(name) for name in ("after", "consumer"))
    in_feed |= request.args.get("wait", "0") not in ("", "0")  # which refuses it
    as_lines = request.accept_mimetypes.best_match(["application/json", NDJSON]) == NDJSON
    if in_feed:
        feed = parse_query(FeedQuery, request.args)
        if not as_lines:
            return _show_feed(feed)
        end = replicated_end(current_database())
        return _stream(partial(_feed_lines, query=feed, end=end))
    query = parse_query(MessageQuery, request.args)
    if as_lines:
        return _stream(partial(_lines, wanted=query))
    with reader(takes_long=takes_long(query)) as db:
        page = list_messages(db, query, current_services().counts)
        # Encoded before the next long read begins, for a page may have megabytes.
        data = [message.as_json() for message in page.messages]
        response = jsonify(
            Page(data=data, total=page.total, limit=query.limit, offset=query.offset)
        )
    if page.next_cursor:
        _link_next(response, query, cursor=page.next_cursor.encode())
    return response


@bp.get("/messages/<id:message_id>")
def show_message(message_id: str) -> CompleteMessage:
    """Respond with one message and all that is stored of it.

    Raises:
        NotFound, Gone: 404, or 410 if it was removed.
    """
    message = find_message(get_db(), message_id)
    if message is None and was_removed(get_db(), [message_id]):
        raise Gone("the message was removed")
    if message is None:
        raise NotFound("there is no message with this id")
    return message.as_complete_json()


def _show_feed(query: FeedQuery) -> Response:
    """Respond with the next messages; wait for one if there is none and the client wants that.

    Raises:
        NoConsumer, PositionLost: 404, 410.
        RunLater: there is none yet.
    """
    # Before the read: what arrives after it changes this.
    poll = current_database().arrivals
    seen = poll()
    execution = execution_of(request.environ)
    after = _position(get_db(), query)
    if after == "now" and execution.earlier:  # then it was before the message that has come
        after = execution.earlier.awaited.after
    end = replicated_end(current_database())
    part = read_feed(get_db(), query, after, query.limit, end)
    if not part.messages and not part.more:
        new = NewMessages(current_database(), query, part.position)
        execution.wait_for(Awaited(poll, seen, new.have_come, part.position), query.wait)
    page: FeedPage = {"data": part.messages, "position": str(part.position), "more": part.more}
    if query.consumer:
        page["acknowledged"] = str(after)
    response = jsonify(page)
    _link_next(response, query, after=str(part.position))
    return response


def _position(db: Connection, query: FeedQuery) -> FeedPosition | FeedStart:
    """Return where to read on: where the query says, or where its consumer is.

    Raises:
        NoConsumer: 404.
    """
    return query.after or find_consumer(db, query.consumer or "").position


def _link_next(response: Response, query: MessageQuery | FeedQuery, **position: str) -> None:
    """Set the reference to what follows, from a position on, with the same filters (RFC 8288)."""
    parameters = query.model_dump(
        by_alias=True, exclude_none=True, exclude={"offset", "cursor", "after", "consumer"}
    )
    url = f"{request.path}?{urlencode({**parameters, **position})}"
    response.headers["Link"] = f'<{url}>; rel="next"'


def _stream(blocks: Callable[[Connection], Iterator[list[bytes]]]) -> Response:
    execution = execution_of(request.environ)
    execution.require(Executor.STREAM)
    stream = current_services().reads.stream(blocks, execution.has_client_left)
    # The first is made now: once the response has begun, a failed read cannot be a 503 any more.
    first = next(stream, b"")
    if request.method == "HEAD":
        stream.close()
        return Response(iter(()), mimetype=NDJSON)  # whose length nobody knows
    return StreamedResponse(first, stream, NDJSON)


def _lines(db: Connection, wanted: MessageFilter) -> Iterator[list[bytes]]:
    """Yield the lines of each chunk, joined in blocks."""
    for chunk in stream_chunks(db, wanted):
        yield [
            b"".join(message.as_line() for message in chunk[at : at + _BLOCK_LINES])
            for at in range(0, len(chunk), _BLOCK_LINES)
        ]


def _feed_lines(
    db: Connection, query: FeedQuery, end: FeedPosition | None
) -> Iterator[list[bytes]]:
    """Yield the lines of each part of the feed, joined."""
    for messages in stream_feed(db, query, _position(db, query), end):
        yield [b"".join(to_json(message) + b"\n" for message in messages)]
