"""Reads the body of a delivery, up to a limit, and refuses one that is too long or not complete."""

from flask import request
from gunicorn.http.errors import ParseException
from werkzeug.exceptions import ClientDisconnected
from werkzeug.wsgi import get_input_stream

from webhook_api.errors import BodyGarbled, BodyIncomplete, BodyTooLarge


def read_body(limit: int) -> bytes:
    """Return the request's body, of `limit` bytes at most.

    Flask's MAX_CONTENT_LENGTH is not enough: it cuts a chunked body off at the limit, and the
    view gets the first part of it (Werkzeug 3.1, `LimitedStream`).

    Raises:
        BodyTooLarge: it is longer. If Content-Length says so, nothing of it was read.
        BodyIncomplete: the client stopped in the middle of it.
        BodyGarbled: its chunks are malformed.
    """
    announced = request.content_length  # None for a chunked body
    if announced is not None and announced > limit:
        raise _too_large(limit)
    body = b""
    stream = get_input_stream(request.environ)
    try:
        while len(body) <= limit and len(body) != announced:
            part = stream.read(limit + 1 - len(body))
            if not part:
                break
            body += part
    except (ClientDisconnected, OSError):
        raise _incomplete() from None
    except ParseException:
        raise BodyGarbled("request body is not correct HTTP") from None
    if len(body) > limit:
        raise _too_large(limit)
    if announced is not None and len(body) < announced:
        # Gunicorn's input just ends, as if the body were complete.
        raise _incomplete()
    return body


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(f"request body is longer than {limit} bytes")


def _incomplete() -> BodyIncomplete:
    return BodyIncomplete("request body is incomplete")
