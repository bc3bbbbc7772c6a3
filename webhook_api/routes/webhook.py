"""POST /webhook: store one message exactly once.

POST /webhook/NAME: store all that a provider delivers, or nothing; GET: its handshake.
The checks always have this order: size, signature over the raw bytes, parsing, storing.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial

from flask import Blueprint, Response, current_app, g, jsonify, request
from werkzeug.exceptions import Forbidden
from werkzeug.wsgi import get_input_stream

from webhook_api.config import Config
from webhook_api.errors import BodyIncomplete, BodyTooLarge, InvalidInput
from webhook_api.intake.signature import SIGNATURE_HEADER, verify_signature
from webhook_api.models import parse_json, parse_message
from webhook_api.outcome import DeliveryCounts, Outcome, Result
from webhook_api.providers import Delivery, Provider, read_delivery
from webhook_api.providers.delivery import MAX_MESSAGES, UnreadableError, provider_of_id
from webhook_api.providers.standard import SENDER
from webhook_api.responses import Accepted
from webhook_api.services import current_services
from webhook_api.store.dead_letters import DeadLetter
from webhook_api.store.messages import StoreResult
from webhook_api.timestamps import now_as_text

# Of the headers of a dead letter: what signs it, and what says how to read it.
_KEPT = re.compile("content-.*|user-agent|x-.*signature.*|i-twilio-.*|(webhook|svix)-.*")

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


def provider_routes(providers: Mapping[str, Provider]) -> Blueprint:
    """Return the routes of the providers that are in use; those of others are 404."""
    bp = Blueprint("providers", __name__)
    for name, provider in providers.items():
        receive = partial(receive_delivery, provider)
        bp.add_url_rule(f"/webhook/{name}", name, receive, methods=["POST"])
        if provider.handshake is not None:
            respond = partial(respond_to_handshake, provider.handshake)
            bp.add_url_rule(f"/webhook/{name}", f"{name}_handshake", respond, methods=["GET"])
    return bp


def receive_delivery(provider: Provider) -> Response:
    """Respond with 200 once all of the delivery is on disk, now or since an earlier one.

    What is signed and cannot be stored as messages is kept as it came, as a dead letter.
    """
    counts = DeliveryCounts(provider.name)
    outcome = g.outcome = Outcome(counts=counts)
    body = read_body(provider.max_body_bytes)
    # Nothing above this line parses the body.
    headers = {name.lower(): value for name, value in request.headers.items()}
    outcome.checked_url = provider.url + _end_of_url() if provider.url else ""
    # Whatever the client sent as `SENDER`: headers are not signed.
    outcome.signed_by, headers[SENDER] = provider.verify(headers, body, outcome.checked_url)
    delivery, reason = _read(provider.name, headers, body)
    if len(delivery.messages) == 1:
        outcome.message_id = delivery.messages[0].message_id
    letters = []
    if reason:
        kept = {name: value for name, value in headers.items() if value and _KEPT.fullmatch(name)}
        letters.append(DeadLetter(provider.name, reason, kept, body, now_as_text()))
    stored: list[StoreResult] = []
    if delivery.messages or letters:
        commits = current_services().commits
        stored, counts.dead_letters = commits.store_all(delivery.messages, letters)
        counts.reason = reason
    _note(outcome, counts, delivery, stored)
    if provider.response is None:
        return jsonify(status="ok")
    return Response(provider.response, mimetype="text/xml")


def _end_of_url() -> str:
    """Return the slash and the query that the URL was called with, if any: Twilio signs both."""
    slash = "/" if request.environ["PATH_INFO"].endswith("/") else ""
    query = request.query_string.decode("latin-1")
    return f"{slash}?{query}" if query else slash


def respond_to_handshake(handshake: Callable[[Mapping[str, str]], str | None]) -> Response:
    """Respond to a verification request with its challenge.

    Raises:
        Forbidden: its token is not ours.
    """
    challenge = handshake(request.args)
    if challenge is None:
        raise Forbidden("the verify token is wrong")
    return Response(challenge, mimetype="text/plain")


def _read(provider: str, headers: Mapping[str, str], body: bytes) -> tuple[Delivery, str]:
    """Return what a signed delivery holds, and why not all of it can be stored, if so."""
    now = now_as_text()
    try:
        delivery = read_delivery(provider, headers, body, now, MAX_MESSAGES)
    except UnreadableError as error:
        if error.__cause__:
            g.failure = error  # its traceback is logged
        return Delivery(provider, now), str(error)
    return delivery, delivery.reason


def _note(
    outcome: Outcome, counts: DeliveryCounts, delivery: Delivery, stored: list[StoreResult]
) -> None:
    results = [Result.CREATED if one.created else Result.DUPLICATE for one in stored]
    results += [Result.DEAD_LETTER] * (delivery.unstorable.total() or len(counts.dead_letters))
    # The first of these that a message had is the result of the delivery.
    order = (Result.CREATED, Result.DUPLICATE, Result.DEAD_LETTER, Result.EMPTY)
    outcome.result = next(one for one in order if one in (*results, Result.EMPTY))
    counts.messages = Counter(results)
    counts.statuses, counts.events = delivery.statuses, delivery.events
    counts.error_codes = delivery.error_codes
    if delivery.has_own_time:
        counts.conflicts = sum(one.conflict for one in stored)
    outcome.conflict = counts.conflicts > 0
