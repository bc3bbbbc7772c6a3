"""GET /messages: a page of the stored messages, or all of them as a stream; and one of them."""

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from functools import partial
from typing import NamedTuple
from urllib.parse import urlencode

from flask import Blueprint, Response, current_app, request
from flask.json.provider import JSONProvider
from werkzeug.exceptions import Gone, NotFound

from webhook_api.db import get_db
from webhook_api.execution import Place, execution_of
from webhook_api.models import Cursor, FeedQuery, MessageFilter, MessageQuery, parse_query
from webhook_api.reading.complete_message import find_message
from webhook_api.reading.count_cache import CountCache
from webhook_api.reading.listing import (
    NDJSON,
    list_messages,
    stream_chunks,
    takes_long,
)
from webhook_api.responses import CompleteMessage, Page
from webhook_api.routes.feed import feed_lines, show_feed
from webhook_api.routes.page_reads import read_page
from webhook_api.services import current_services
from webhook_api.store.connections import Connection
from webhook_api.store.messages import was_removed
from webhook_api.web.streams import StreamedResponse

_BLOCK_LINES = 200  # sent by one call

bp = Blueprint("messages", __name__)


@bp.get("/messages")
def show_messages() -> Response:
    """Respond with one page, oldest first; with every match if the client prefers NDJSON (spec 2).

    With a position, in the order of arrival: see `feed.py`.

    Raises:
        RequestRefused: 422 or 503, see `errors`.
    """
    in_feed = any(request.args.get(name) for name in ("after", "consumer"))
    in_feed |= request.args.get("wait", "0") not in ("", "0")  # which refuses it
    as_lines = request.accept_mimetypes.best_match(["application/json", NDJSON]) == NDJSON
    if in_feed and as_lines:
        return _stream(partial(feed_lines, query=parse_query(FeedQuery, request.args)))
    if in_feed:
        return show_feed()
    query = parse_query(MessageQuery, request.args)
    if as_lines:
        return _stream(partial(_encode_chunks, wanted=query))
    make = partial(
        _make_page,
        query=query,
        counts=current_services().counts,
        json=current_app.json,
    )
    page = read_page(make, takes_long=takes_long(query))
    if page.next_cursor:
        page.response.headers["Link"] = f'<{_next_page(query, page.next_cursor)}>; rel="next"'
    return page.response


@bp.get("/messages/<id:message_id>")
def show_message(message_id: str) -> CompleteMessage:
    """Respond with one message and all that is stored of it.

    Raises:
        NotFound: 404, there is none with this id.
        Gone: 410, there was one.
    """
    message = find_message(get_db(), message_id)
    if message is None and was_removed(get_db(), [message_id]):
        raise Gone("the message was removed")
    if message is None:
        raise NotFound("there is no message with this id")
    return message.as_complete_json()


class _PageAnswer(NamedTuple):
    """The response with a page, and where the next page starts, if there is one."""

    response: Response
    next_cursor: Cursor | None


def _make_page(
    db: Connection,
    *,
    query: MessageQuery,
    counts: CountCache,
    json: JSONProvider,
) -> _PageAnswer:
    """Read a page and encode it. Both happen in one turn, since a page may have megabytes.

    Raises:
        sqlite3.Error: the database cannot be read.
    """
    page = list_messages(db, query, counts)
    data = [message.as_json() for message in page.messages]
    shown = Page(data=data, total=page.total, limit=query.limit, offset=query.offset)
    response: Response = json.response(shown)  # type: ignore[assignment]
    return _PageAnswer(response, page.next_cursor)


def _next_page(query: MessageQuery, cursor: Cursor) -> str:
    """Return the reference to the page after this one, with the same filters (RFC 8288)."""
    parameters = query.model_dump(
        by_alias=True, exclude_none=True, include={*MessageFilter.model_fields, "limit"}
    )
    return f"{request.path}?{urlencode({**parameters, 'cursor': cursor.encode()})}"


def _stream(chunks: Callable[[Connection], Iterator[list[bytes]]]) -> Response:
    execution = execution_of(request.environ)
    execution.require(Place.STREAM)
    reads = current_services().reads
    blocks = _blocks(reads.stream(chunks, execution.has_client_left))
    # The first is made now: once the response has begun, a failed read cannot be a 503 any more.
    first = next(blocks, b"")
    if request.method == "HEAD":
        blocks.close()
        return Response(iter(()), mimetype=NDJSON)  # whose length nobody knows
    return StreamedResponse(first, blocks, NDJSON)


def _blocks(chunks: Generator[list[bytes]]) -> Generator[bytes]:
    with closing(chunks):
        for blocks in chunks:
            yield from blocks


def _encode_chunks(db: Connection, wanted: MessageFilter) -> Iterator[list[bytes]]:
    """Yield the lines of each chunk, joined in blocks."""
    for chunk in stream_chunks(db, wanted):
        yield [
            b"".join(message.as_line() for message in chunk[at : at + _BLOCK_LINES])
            for at in range(0, len(chunk), _BLOCK_LINES)
        ]
