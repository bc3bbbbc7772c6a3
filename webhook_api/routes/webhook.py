"""POST /webhook: file one inbound message exactly once."""

from flask import Blueprint, current_app, request
from gunicorn.http.errors import ParseException
from werkzeug.exceptions import ClientDisconnected

from webhook_api.errors import BodyGarbled, BodyIncomplete, BodyTooLarge
from webhook_api.intake.commit import GroupCommit
from webhook_api.intake.signature import SIGNATURE_HEADER, verify_signature
from webhook_api.intake.waiting import wait_of
from webhook_api.models import parse_json, parse_message
from webhook_api.outcome import Result
from webhook_api.web.outcome import begin_outcome

bp = Blueprint("webhook", __name__)


@bp.post("/webhook")
def receive_message() -> dict[str, str]:
    """Answer 200 once the message is on disk, and for each repeat of it (spec 1).

    Raises:
        RequestRefused: 400, 401, 408, 413, 422 or 503, see `errors`.
    """
    outcome = begin_outcome()
    body = read_body(current_app.config["MAX_BODY_BYTES"])
    # Nothing of the body is looked at above this line.
    outcome.key = verify_signature(
        current_app.config["WEBHOOK_SECRET"],
        body,
        request.headers.get(SIGNATURE_HEADER),
        previous=current_app.config["WEBHOOK_SECRET_PREVIOUS"],
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

    Flask's MAX_CONTENT_LENGTH would not do: a chunked body it cuts off at the limit, and the
    view sees the start of it (Werkzeug 3.1, `LimitedStream`).

    Raises:
        BodyTooLarge: it is longer; if it says so itself, it was not read at all.
        BodyIncomplete: the client stopped in the middle of it.
        BodyGarbled: its chunks are none.
    """
    too_large = BodyTooLarge(f"request body is longer than {limit} bytes")
    if (request.content_length or 0) > limit:
        raise too_large
    incomplete = BodyIncomplete("request body did not arrive whole")
    body = b""
    try:
        while len(body) <= limit and (part := request.stream.read(limit + 1 - len(body))):
            body += part
    except (ClientDisconnected, OSError):
        raise incomplete from None
    except ParseException:
        raise BodyGarbled("request body is not framed as HTTP wants it") from None
    if len(body) > limit:
        raise too_large
    if len(body) < (request.content_length or 0):
        # Gunicorn's input just ends, as if that were all.
        raise incomplete
    return body
