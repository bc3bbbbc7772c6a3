"""The work around every request: one hook before it, and one after it."""

import random
import time
from collections.abc import Iterable

from flask import Flask, Request, Response, g, request
from werkzeug.datastructures import Headers
from werkzeug.exceptions import MethodNotAllowed

from webhook_api.execution import execution_of
from webhook_api.outcome import FinishedRequest, Outcome, Result
from webhook_api.web.metrics import Metrics
from webhook_api.web.request_log import log_request

REQUEST_ID_HEADER = "X-Request-ID"
# Source: OWASP, "HTTP Security Response Headers Cheat Sheet".
_SECURITY_HEADERS = {
    # For responses that are not pages; /docs and /inbox have their own policy.
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    # Responses hold phone numbers, or are true only now.
    "Cache-Control": "no-store",
}
_LOWER_NAMES = [(name.lower(), name, value) for name, value in _SECURITY_HEADERS.items()]


def init_hooks(app: Flask, metrics: Metrics, providers: Iterable[str]) -> None:
    """Give each request an id; when there is a response, set its headers, count it and log it."""
    of_deliveries = {"/webhook", *(f"/webhook/{name}" for name in providers)}

    @app.before_request
    def begin() -> None:
        # Each access through one of Flask's proxies takes half a microsecond.
        current = g._get_current_object()
        current.started = time.perf_counter()
        current.request_id = new_request_id()
        current.execution = execution_of(request.environ)
        if current.execution.refusal:
            if request.path in of_deliveries:
                current.outcome = Outcome()
            raise current.execution.refusal

    @app.after_request
    def end(response: Response) -> Response:
        current = g._get_current_object()
        asked = request._get_current_object()  # type: ignore[attr-defined]
        if not current.execution.claim():
            return response  # nobody gets it: the server has refused the request meanwhile
        finished = FinishedRequest(
            request_id=current.request_id,
            environ=asked.environ,
            method=asked.method,
            path=asked.path,
            rule=asked.url_rule.rule if asked.url_rule else _rule_without_method(app, asked),
            status=response.status_code,
            started=current.started,
            latency_ms=(time.perf_counter() - current.started) * 1000,
            outcome=current.get("outcome")
            or (_why_no_delivery(asked) if asked.path in of_deliveries else None),
            failure=current.get("refusal") or current.get("failure"),
        )
        metrics.count(finished)
        set_headers(response.headers)
        response.headers.add(REQUEST_ID_HEADER, finished.request_id)
        log_request(finished, response)
        return response


def set_headers(headers: Headers) -> None:
    """Set the security headers of a response, except those that its view has set."""
    # Four calls of `setdefault` would take a tenth of the time of a request.
    present = {name.lower() for name, _value in headers}
    for lower_name, name, value in _LOWER_NAMES:
        if lower_name not in present:
            headers.add(name, value)


def _rule_without_method(app: Flask, asked: Request) -> str | None:
    """Return the rule of the route that lacks the method of a request; None: no route matches."""
    failure = asked.routing_exception
    adapter = app.create_url_adapter(asked) if isinstance(failure, MethodNotAllowed) else None
    if adapter is None:
        return None
    rule, _values = adapter.match(method=next(iter(adapter.allowed_methods())), return_rule=True)
    return rule.rule


def _why_no_delivery(asked: Request) -> Outcome | None:
    """Return the outcome of a request that is no delivery, though its path is that of one.

    None for the handshake of a provider, which has a view.
    """
    if asked.method == "OPTIONS" or isinstance(asked.routing_exception, MethodNotAllowed):
        return Outcome(Result.METHOD_NOT_ALLOWED)
    return Outcome(Result.MALFORMED) if asked.routing_exception else None  # a wrong Host


def new_request_id() -> str:
    """Return 32 hexadecimal digits that no other request has, in any process.

    They can be guessed, which does no harm. Python gives each forked process its own seed.
    """
    return f"{random.getrandbits(128):032x}"
