"""POST /webhook: store one inbound message exactly once."""

from flask import Blueprint, current_app, g, request
from werkzeug.wsgi import get_input_stream

from webhook_api.config import Config
from webhook_api.errors import BodyIncomplete, BodyTooLarge, InvalidInput
from webhook_api.intake.signature import SIGNATURE_HEADER, verify_signature
from webhook_api.models import parse_json, parse_message
from webhook_api.outcome import Outcome, Result
from webhook_api.providers.delivery import provider_of_id
from webhook_api.responses import Accepted
from webhook_api.services import current_services

bp = Blueprint("webhook", __name__)


@bp.post("/webhook")
def receive_message() -> Accepted:
    """Respond with 200 once the message is on disk, and for each repeat of it (spec 1)."""
    outcome = g.outcome = Outcome()
    settings: Config = current_app.config["SETTINGS"]
    body = read_body(settings.max_body_bytes)
    # Nothing above this line parses the body.
    outcome.signed_by = verify_signature(
        settings.webhook_secret,
        body,
        request.headers.get(SIGNATURE_HEADER),
        previous=settings.webhook_secret_previous,
    )
    payload = parse_json(body)
    if isinstance(payload, dict) and isinstance(message_id := payload.get("message_id"), str):
        outcome.message_id = message_id  # even if the rest is not valid
    message = parse_message(payload)
    services = current_services()
    if (provider := provider_of_id(message.message_id)) in services.providers:
        # Otherwise the provider's own message would be a repeat of this one, and be lost.
        reason = f"{provider}: is the prefix of a provider's own ids"
        raise InvalidInput([{"type": "reserved", "loc": ["body", "message_id"], "msg": reason}])
    [stored] = services.commits.store([message])
    outcome.result = Result.CREATED if stored.created else Result.DUPLICATE
    outcome.conflict = stored.conflict
    return {"status": "ok"}


def read_body(limit: int) -> bytes:
    """Return the request's body, of `limit` bytes at most.

    Flask's MAX_CONTENT_LENGTH is not enough: it cuts a chunked body off at the limit, and the
    view gets the first part of it (Werkzeug 3.1, `LimitedStream`).

    Raises:
        BodyTooLarge: it is longer. If Content-Length says so, nothing of it was read.
        BodyIncomplete: it ends early. Our own server refuses that before any view.
    """
    announced = request.content_length or 0  # 0 for a chunked body
    body = get_input_stream(request.environ).read(limit + 1) if announced <= limit else b""
    if max(announced, len(body)) > limit:
        raise BodyTooLarge(f"request body is longer than {limit} bytes")
    if len(body) < announced:
        raise BodyIncomplete("request body is incomplete")
    return body
