"""GET /messages: a page of what is stored, or all of it as a stream."""

from collections.abc import Iterator
from itertools import chain, islice
from threading import Semaphore
from urllib.parse import urlencode

from flask import Blueprint, Response, current_app, jsonify, request, stream_with_context

from webhook_api.db import get_db
from webhook_api.errors import Unavailable
from webhook_api.listing import NDJSON, StoredMessage, list_messages, stream_messages
from webhook_api.models import Cursor, MessageFilter, MessageQuery, parse_query

_BLOCK_LINES = 200

bp = Blueprint("messages", __name__)


@bp.get("/messages")
def show_messages() -> Response:
    """Answer with one page, oldest first, or with every match if NDJSON is preferred (spec 2).

    Raises:
        RequestRefused: 422 or 503, see `errors`.
    """
    if request.accept_mimetypes.best_match(["application/json", NDJSON]) == NDJSON:
        return _stream(parse_query(MessageFilter, request.args))
    query = parse_query(MessageQuery, request.args)
    page = list_messages(get_db(), query, current_app.extensions["counts"])
    response = jsonify(
        data=[message.as_json() for message in page.messages],
        total=page.total,
        limit=query.limit,
        offset=query.offset,
    )
    if page.next_cursor:
        response.headers["Link"] = f'<{_next_page(query, page.next_cursor)}>; rel="next"'
    return response


def _next_page(query: MessageQuery, cursor: Cursor) -> str:
    """Return the reference to the page after this one, with the same filters (RFC 8288)."""
    parameters = query.model_dump(
        by_alias=True, exclude_none=True, include={"from_msisdn", "since", "q", "limit"}
    )
    return f"{request.path}?{urlencode({**parameters, 'cursor': cursor.encode()})}"


def _stream(wanted: MessageFilter) -> Response:
    messages = stream_messages(get_db(), wanted)
    streams: Semaphore = current_app.extensions["streams"]
    if not streams.acquire(blocking=False):
        raise Unavailable("too many streams are being read")
    blocks = _blocks(messages, streams)
    # The first is made now, for a database that cannot be read is a 503 only before the start.
    body = chain([next(blocks, b"")], blocks)
    return Response(stream_with_context(body), mimetype=NDJSON)


def _blocks(messages: Iterator[StoredMessage], streams: Semaphore) -> Iterator[bytes]:
    """Yield the lines of `messages`, many at a time: each block is sent by a call of its own.

    Releases `streams` at the end, be it that of the messages or of the reader's patience.
    """
    try:
        while block := b"".join(message.as_line() for message in islice(messages, _BLOCK_LINES)):
            yield block
    finally:
        streams.release()
