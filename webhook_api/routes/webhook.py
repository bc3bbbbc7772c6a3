"""POST /webhook: store one inbound message exactly once."""

from flask import Blueprint, current_app, request

from webhook_api.config import Config
from webhook_api.errors import InvalidInput
from webhook_api.intake.signature import SIGNATURE_HEADER, verify_signature
from webhook_api.models import parse_json, parse_message
from webhook_api.outcome import Result
from webhook_api.providers.delivery import provider_of_id
from webhook_api.responses import Accepted
from webhook_api.routes.request_body import read_body
from webhook_api.services import current_services
from webhook_api.web.outcome import begin_outcome

bp = Blueprint("webhook", __name__)


@bp.post("/webhook")
def receive_message() -> Accepted:
    """Respond with 200 once the message is on disk, and for each repeat of it (spec 1).

    Raises:
        RequestRefused: 400, 401, 408, 413, 422 or 503, see `errors`.
    """
    outcome = begin_outcome()
    settings: Config = current_app.config["SETTINGS"]
    body = read_body(settings.max_body_bytes)
    # Nothing above this line looks at the body.
    outcome.signed_by = verify_signature(
        settings.webhook_secret,
        body,
        request.headers.get(SIGNATURE_HEADER),
        previous=settings.webhook_secret_previous,
    )
    payload = parse_json(body)
    outcome.note_message_id(payload)
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
