"""POST /webhook/NAME: store all that a provider delivers, or nothing; GET: its handshake.

The checks have the order of /webhook: size, signature over the raw bytes, parsing, storing.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial

from flask import Blueprint, Response, current_app, jsonify, request
from werkzeug.exceptions import Forbidden

from webhook_api.intake.commit import GroupCommit
from webhook_api.outcome import Outcome, Result, Tally
from webhook_api.providers import Delivery, Provider
from webhook_api.routes.request_body import read_body
from webhook_api.store.messages import StoreResult
from webhook_api.web.outcome import begin_outcome


def provider_routes(providers: Mapping[str, Provider]) -> Blueprint:
    """Return the routes of the providers that are in use; those of others are 404."""
    bp = Blueprint("providers", __name__)
    for name, provider in providers.items():
        receive = partial(receive_delivery, provider)
        bp.add_url_rule(f"/webhook/{name}", name, receive, methods=["POST"])
        if provider.handshake is not None:
            answer = partial(answer_handshake, provider.handshake)
            bp.add_url_rule(f"/webhook/{name}", f"{name}_handshake", answer, methods=["GET"])
    return bp


def receive_delivery(provider: Provider) -> Response:
    """Answer 200 once every message of the delivery is on disk, now or since an earlier one.

    Raises:
        RequestRefused: 400, 401, 408, 413, 422 or 503, see `errors`.
    """
    outcome = begin_outcome()
    outcome.tally = Tally(provider.name)
    body = read_body(provider.max_body_bytes)
    # Nothing above this line looks at the body.
    headers = {name.lower(): value for name, value in request.headers.items()}
    delivery = provider.read(headers, body, provider.url + _end_of_url())
    if len(delivery.messages) == 1:
        outcome.message_id = delivery.messages[0].message_id
    commits: GroupCommit = current_app.extensions["commits"]
    stored = commits.store(delivery.messages) if delivery.messages else []
    _note(outcome, outcome.tally, delivery, stored)
    if provider.answer is None:
        return jsonify(status="ok")
    return Response(provider.answer, mimetype="text/xml")


def _end_of_url() -> str:
    """Return the slash and the query that the URL was called with, if any: Twilio signs both."""
    slash = "/" if request.environ["PATH_INFO"].endswith("/") else ""
    query = request.query_string.decode("latin-1")
    return f"{slash}?{query}" if query else slash


def answer_handshake(handshake: Callable[[Mapping[str, str]], str | None]) -> Response:
    """Answer a verification request with its challenge.

    Raises:
        Forbidden: its token is not ours.
    """
    challenge = handshake(request.args)
    if challenge is None:
        raise Forbidden("the verify token is wrong")
    return Response(challenge, mimetype="text/plain")


def _note(outcome: Outcome, tally: Tally, delivery: Delivery, stored: list[StoreResult]) -> None:
    results = [Result.CREATED if one.created else Result.DUPLICATE for one in stored]
    # The first of these that a message had is the result of the whole delivery.
    order = (Result.CREATED, Result.DUPLICATE, Result.EMPTY)
    outcome.result = next(one for one in order if one in (*results, Result.EMPTY))
    tally.messages = Counter(results)
    tally.skipped, tally.statuses = delivery.skipped, delivery.statuses
    if delivery.has_own_time:
        tally.conflicts = sum(one.conflict for one in stored)
    outcome.conflict = tally.conflicts > 0
