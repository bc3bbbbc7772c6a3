"""GET /messages: a page of what is stored, or all of it as a stream."""

from collections.abc import Generator, Iterator
from functools import partial
from urllib.parse import urlencode

from flask import Blueprint, Response, current_app, jsonify, request

from webhook_api.db import Connection, get_db
from webhook_api.listing import NDJSON, MessagePage, list_messages, stream_chunks
from webhook_api.models import Cursor, MessageFilter, MessageQuery, parse_query
from webhook_api.presence import absence
from webhook_api.reading import Reading, Stream
from webhook_api.streams import StreamedReply

_BLOCK_LINES = 200  # are sent by one call
_NEAR_ROWS = 1000  # are passed over as fast as a turn is had

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
    find = partial(list_messages, query=query, counts=current_app.extensions["counts"])
    if _grows(query):
        reading: Reading = current_app.extensions["reading"]
        page = reading.read(find, absence(request.environ))
        response = _as_json(page, query)
    else:
        with current_app.extensions["pages"]:
            page = find(get_db())
            response = _as_json(page, query)
    if page.next_cursor:
        response.headers["Link"] = f'<{_next_page(query, page.next_cursor)}>; rel="next"'
    return response


def _as_json(page: MessagePage, query: MessageQuery) -> Response:
    return jsonify(
        data=[message.as_json() for message in page.messages],
        total=page.total,
        limit=query.limit,
        offset=query.offset,
    )


def _grows(query: MessageQuery) -> bool:
    """Whether the cost of `query` grows with the data: no counter and no index gives the answer."""
    counted = query.from_msisdn is None or query.since is None
    return query.q is not None or not counted or query.offset > _NEAR_ROWS


def _next_page(query: MessageQuery, cursor: Cursor) -> str:
    """Return the reference to the page after this one, with the same filters (RFC 8288)."""
    parameters = query.model_dump(
        by_alias=True, exclude_none=True, include={"from_msisdn", "since", "q", "limit"}
    )
    return f"{request.path}?{urlencode({**parameters, 'cursor': cursor.encode()})}"


def _stream(wanted: MessageFilter) -> Response:
    reading: Reading = current_app.extensions["reading"]
    blocks = _blocks(reading.stream(partial(_encoded, wanted), absence(request.environ)))
    # The first is made now, for a database that cannot be read is a 503 only before the start.
    first = next(blocks, b"")
    if request.method == "HEAD":
        blocks.close()
        return Response(mimetype=NDJSON)
    return StreamedReply(first, blocks, NDJSON)


def _blocks(stream: Stream[list[bytes]]) -> Generator[bytes]:
    try:
        for blocks in stream:
            yield from blocks
    finally:
        stream.close()


def _encoded(wanted: MessageFilter, db: Connection) -> Iterator[list[bytes]]:
    """Yield the lines of each chunk, many in a block: making them takes longer than reading."""
    for chunk in stream_chunks(db, wanted):
        yield [
            b"".join(message.as_line() for message in chunk[at : at + _BLOCK_LINES])
            for at in range(0, len(chunk), _BLOCK_LINES)
        ]
