"""POST /webhook: store one inbound message exactly once."""

from flask import Blueprint, current_app, request
from gunicorn.http.errors import ParseException
from werkzeug.exceptions import ClientDisconnected
from werkzeug.wsgi import get_input_stream

from webhook_api.answers import Accepted
from webhook_api.config import Config
from webhook_api.errors import BodyGarbled, BodyIncomplete, BodyTooLarge
from webhook_api.intake.commit import GroupCommit
from webhook_api.intake.signature import SIGNATURE_HEADER, verify_signature
from webhook_api.intake.waiting import wait_of
from webhook_api.models import parse_json, parse_message
from webhook_api.outcome import Result
from webhook_api.web.outcome import begin_outcome

bp = Blueprint("webhook", __name__)


@bp.post("/webhook")
def receive_message() -> Accepted:
    """Answer 200 once the message is on disk, and for each repeat of it (spec 1).

    Raises:
        RequestRefused: 400, 401, 408, 413, 422 or 503, see `errors`.
    """
    outcome = begin_outcome()
    settings: Config = current_app.config["SETTINGS"]
    body = read_body(settings.max_body_bytes)
    # Nothing above this line looks at the body.
    outcome.key = verify_signature(
        settings.webhook_secret,
        body,
        request.headers.get(SIGNATURE_HEADER),
        previous=settings.webhook_secret_previous,
    )
    payload = parse_json(body)
    outcome.note_message_id(payload)
    message = parse_message(payload)
    commits: GroupCommit = current_app.extensions["commits"]
    [stored] = commits.store([message], wait_of(request.environ))
    outcome.result = Result.CREATED if stored.created else Result.DUPLICATE
    outcome.conflict = stored.conflict
    return {"status": "ok"}


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
