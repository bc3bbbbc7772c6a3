"""Our exceptions, and the only way from an exception to a status and `{"detail": ...}`."""

import sqlite3
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from flask import Flask, Response, g, jsonify
from werkzeug.exceptions import HTTPException

from webhook_api.outcome import Result, current_outcome
from webhook_api.schema import SchemaError

RETRY_AFTER_S = 2


class RequestRefused(Exception):
    """A request that gets an answer other than the one it asked for."""

    status: int
    result: Result

    def __init__(self, detail: object) -> None:
        super().__init__(detail)
        self.detail = detail


class InvalidSignature(RequestRefused):
    """The delivery is not signed with our secret (spec 1, "Behavior")."""

    status = HTTPStatus.UNAUTHORIZED
    result = Result.INVALID_SIGNATURE

    def __init__(self) -> None:
        super().__init__("invalid signature")


class InvalidInput(RequestRefused):
    """Body or query break their rules; `detail` lists `type`, `loc` and `msg` of each."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    result = Result.VALIDATION_ERROR

    @classmethod
    def from_errors(cls, where: str, errors: Sequence[Any]) -> "InvalidInput":
        """Build from Pydantic's `errors()`, leaving out the input it would echo."""
        return cls(
            [
                {"type": error["type"], "loc": [where, *error["loc"]], "msg": error["msg"]}
                for error in errors
            ]
        )


class BodyTooLarge(RequestRefused):
    """The body is longer than MAX_BODY_BYTES."""

    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    result = Result.TOO_LARGE


class BodyIncomplete(RequestRefused):
    """The client stalled or left before the whole body had come (RFC 9110, 15.5.9)."""

    status = HTTPStatus.REQUEST_TIMEOUT
    result = Result.INCOMPLETE


class BodyGarbled(RequestRefused):
    """The body breaks the framing of HTTP (RFC 9112, 7.1)."""

    status = HTTPStatus.BAD_REQUEST
    result = Result.INCOMPLETE


class Unavailable(RequestRefused):
    """It cannot be done now; the client should ask, or deliver, again."""

    status: int = HTTPStatus.SERVICE_UNAVAILABLE
    result = Result.UNAVAILABLE


class ClientLeft(Unavailable):
    """The client did not wait for its answer: 499, for the log and the metrics alone.

    No RFC has a status for what nobody receives; this one is nginx's.
    """

    status = 499

    def __init__(self) -> None:
        super().__init__("the client left")


def register_errors(app: Flask) -> None:
    """Give every failure that reaches the application the same JSON shape."""
    app.register_error_handler(RequestRefused, _refused)
    app.register_error_handler(sqlite3.DatabaseError, _database_failed)
    app.register_error_handler(SchemaError, _database_failed)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _unexpected)


def _refused(error: RequestRefused) -> Response:
    if outcome := current_outcome():
        outcome.result = error.result
    response = jsonify(detail=error.detail)
    response.status_code = error.status
    if isinstance(error, Unavailable):
        g.failure = error
        response.headers["Retry-After"] = str(RETRY_AFTER_S)
    return response


def _database_failed(error: Exception) -> Response:
    return _refused(Unavailable(f"database: {error}"))


def _http_error(error: HTTPException) -> Response:
    response = jsonify(detail=error.description)
    response.status_code = error.code or HTTPStatus.INTERNAL_SERVER_ERROR
    # Werkzeug's own response has what belongs to the status, as Allow does to a 405.
    for name, value in error.get_headers():
        response.headers.setdefault(name, value)
    return response


def _unexpected(error: Exception) -> Response:
    g.failure = error
    response = jsonify(detail="internal server error")
    response.status_code = HTTPStatus.INTERNAL_SERVER_ERROR
    return response
