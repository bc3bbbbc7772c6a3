"""/consumers: named consumers, whose position in the feed is kept here."""

import re
from functools import partial
from http import HTTPStatus

from flask import Blueprint, Response, jsonify, request
from werkzeug.exceptions import Forbidden, NotFound, PreconditionRequired

from webhook_api.db import get_db
from webhook_api.models import NAME_PATTERN, ConsumerMove, parse_body
from webhook_api.responses import ConsumerList, ConsumerState
from webhook_api.services import current_services
from webhook_api.store.connections import Connection
from webhook_api.store.positions import (
    Consumer,
    create_consumer,
    find_consumer,
    lag_of,
    list_consumers,
    move_consumer,
    remove_consumer,
)
from webhook_api.web.access import current_read_token

bp = Blueprint("consumers", __name__)


@bp.get("/consumers")
def show_consumers() -> Response:
    """Respond with all consumers, by name."""
    db = get_db()
    return jsonify(ConsumerList(data=[_state(db, one) for one in list_consumers(db)]))


@bp.get("/consumers/<name>")
def show_consumer(name: str) -> Response:
    """Respond with one consumer.

    Raises:
        NoConsumer: 404.
    """
    return _respond(find_consumer(get_db(), name))


@bp.put("/consumers/<name>")
def put_consumer(name: str) -> Response:
    """Create a consumer, or move it: the precondition says which (RFC 9110, 13.1).

    Raises:
        Forbidden: 403, without a READ_TOKEN everybody could move it.
        NoConsumer, TooManyConsumers, Moved, PositionLost: 404, 409, 412, 410.
        PreconditionRequired: 428.
    """
    _require_writing()
    if not re.fullmatch(NAME_PATTERN.rstrip("$"), name):
        raise NotFound("a consumer's name has up to 64 of a-z, 0-9, '.', '_' and '-'")
    wanted = parse_body(ConsumerMove, request.get_data()).position
    commits = current_services().commits
    if request.if_none_match.star_tag:
        created = commits.change(partial(create_consumer, name=name, wanted=wanted))
        return _respond(created, HTTPStatus.CREATED)
    if not request.if_match:
        raise PreconditionRequired("If-Match or If-None-Match: * is needed")
    expected = None if request.if_match.star_tag else request.if_match.as_set()
    move = partial(move_consumer, name=name, wanted=wanted, expected=expected)
    return _respond(commits.change(move))


@bp.delete("/consumers/<name>")
def delete_consumer(name: str) -> Response:
    """Remove a consumer.

    Raises:
        Forbidden: 403.
        NoConsumer: 404.
    """
    _require_writing()
    current_services().commits.change(partial(remove_consumer, name=name))
    return Response(status=HTTPStatus.NO_CONTENT)


def _require_writing() -> None:
    if not current_read_token():
        raise Forbidden("consumers can be changed only where READ_TOKEN is set")


def _respond(consumer: Consumer | None, status: HTTPStatus = HTTPStatus.OK) -> Response:
    assert consumer is not None
    response = jsonify(_state(get_db(), consumer))
    response.status_code = status
    response.headers["ETag"] = f'"{consumer.position}"'
    return response


def _state(db: Connection, consumer: Consumer) -> ConsumerState:
    lag = lag_of(db, consumer)
    return {
        "name": consumer.name,
        "position": str(consumer.position),
        "behind": lag.behind,
        "oldest_unread_seconds": lag.oldest_unread_seconds,
        "missed": consumer.missed,
        "updated_at": consumer.updated_at,
    }
