"""The only way from an exception to a status and `{"detail": ...}`, or a page at /inbox."""

import sqlite3
from http import HTTPStatus

from flask import Flask, Response, g, jsonify, request
from werkzeug.exceptions import BadHost, HTTPException

from webhook_api.errors import (
    RETRY_AFTER_S,
    InvalidInput,
    RequestRefused,
    SchemaError,
    StateError,
    Unavailable,
)
from webhook_api.services import current_services
from webhook_api.web.inbox_page import is_inbox_page, render_failure


def register_errors(app: Flask) -> None:
    """Give every failure that reaches the application the same shape."""
    app.register_error_handler(RequestRefused, _refused)
    app.register_error_handler(sqlite3.DatabaseError, _database_failed)
    app.register_error_handler(SchemaError, _database_failed)
    app.register_error_handler(StateError, _wrong_state)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _unexpected)


def _refused(error: RequestRefused) -> Response:
    if "outcome" in g:
        g.outcome.result = error.result
    response = _respond(error.status, error.detail)
    if isinstance(error, InvalidInput):
        g.refusal = error
    if isinstance(error, Unavailable) or error.reason:
        g.failure = error
    if isinstance(error, Unavailable):
        response.headers["Retry-After"] = str(RETRY_AFTER_S)
    return response


def _database_failed(error: Exception) -> Response:
    return _refused(Unavailable(f"database: {error}"))


def _wrong_state(error: StateError) -> Response:
    if error.body["code"] == "diverged" and current_services().database.is_standby:
        # The copy may only be older: a reader that is told 410 would begin again.
        return _refused(Unavailable("database: this copy does not have the position"))
    response = jsonify(error.body)
    response.status_code = error.status
    return response


def _http_error(error: HTTPException) -> Response:
    response = _respond(error.code or HTTPStatus.INTERNAL_SERVER_ERROR, error.description)
    # Werkzeug's own response has the headers of this status, such as Allow for 405.
    for name, value in error.get_headers():
        response.headers.setdefault(name, value)
    return response


def _unexpected(error: Exception) -> Response:
    g.failure = error
    return _respond(HTTPStatus.INTERNAL_SERVER_ERROR, "internal server error")


def _respond(status: int, detail: object) -> Response:
    # A page has links, which Flask does not build for a Host that it refuses.
    as_page = is_inbox_page(request.path) and not isinstance(request.routing_exception, BadHost)
    response = render_failure(status, detail) if as_page else jsonify(detail=detail)
    response.status_code = status
    return response
