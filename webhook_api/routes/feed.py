"""GET /messages with a position: messages in the order of their arrival, each exactly once."""

from collections.abc import Iterator
from urllib.parse import urlencode

from flask import Response, jsonify, request
from pydantic_core import to_json

from webhook_api.db import current_database, get_db
from webhook_api.execution import execution_of
from webhook_api.models import FeedPosition, FeedQuery, FeedStart, parse_query
from webhook_api.reading.feed import read_feed, stream_feed
from webhook_api.responses import FeedPage
from webhook_api.store.connections import Connection
from webhook_api.store.consumers import find_consumer


def show_feed() -> Response:
    """Respond with the next messages; wait for one if there is none and the client wants that.

    Raises:
        RequestRefused: 422 or 503, see `errors`.
        NoConsumer, PositionLost: 404, 410.
        RunLater: there is none yet.
    """
    query = parse_query(FeedQuery, request.args)
    # Before the read: what arrives after it changes this.
    poll = current_database().arrivals
    seen = poll()
    after = _position(get_db(), query)
    part = read_feed(get_db(), query, after, query.limit)
    if not part.messages and not part.more:
        execution_of(request.environ).wait_for_more(poll, seen, query.wait)
    page: FeedPage = {"data": part.messages, "position": str(part.position), "more": part.more}
    if query.consumer:
        page["acknowledged"] = str(after)
    response = jsonify(page)
    response.headers["Link"] = f'<{_following(query, part.position)}>; rel="next"'
    return response


def feed_lines(db: Connection, query: FeedQuery) -> Iterator[list[bytes]]:
    """Yield the lines of NDJSON of each part of the feed, joined."""
    for messages in stream_feed(db, query, _position(db, query)):
        yield [b"".join(to_json(message) + b"\n" for message in messages)]


def _position(db: Connection, query: FeedQuery) -> FeedPosition | FeedStart:
    """Return where to read on: where the query says, or where its consumer is.

    Raises:
        NoConsumer: 404.
    """
    return query.after or find_consumer(db, query.consumer or "").position


def _following(query: FeedQuery, position: FeedPosition) -> str:
    """Return the reference to what comes after `position`, with the same filters (RFC 8288)."""
    parameters = query.model_dump(
        by_alias=True,
        exclude_none=True,
        include={"from_msisdn", "to_msisdn", "provider", "limit", "wait"},
    )
    return f"{request.path}?{urlencode({**parameters, 'after': str(position)})}"
