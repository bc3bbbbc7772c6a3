"""The work around every request: one hook before it, one after it, and its line in the log."""

import logging
import random
import re
import time
from collections.abc import Iterable
from functools import partial
from http import HTTPStatus
from typing import Any

from flask import Flask, Request, Response, g, request
from werkzeug.datastructures import Headers
from werkzeug.exceptions import MethodNotAllowed

from webhook_api.errors import RequestRefused
from webhook_api.execution import execution_of
from webhook_api.outcome import FinishedRequest, Outcome, Result
from webhook_api.web.metrics import Metrics
from webhook_api.web.streams import StreamedResponse, StreamEnd

logger = logging.getLogger(__name__)

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
_ADDRESSES = re.compile(r"[0-9a-fA-F.:, ]{1,200}")
_PLAIN_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
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
        _log(finished, response)
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


def _log(request: FinishedRequest, response: Response) -> None:
    """Write the line of a request: now, or at the end of its response if that is a stream."""
    if isinstance(response, StreamedResponse):
        # Its level is known only at its end.
        fields = _fields(request)
        response.when_ended.append(partial(_log_stream, fields, request.started))
    elif logger.isEnabledFor(level := _level_of(request)):
        _write(level, _fields(request), request.failure)


def _log_stream(
    fields: dict[str, Any], started: float, end: StreamEnd, failure: Exception | None
) -> None:
    """Write the line of a request whose response was a stream, at its end."""
    latency_ms = (time.perf_counter() - started) * 1000
    fields |= {"latency_ms": round(latency_ms, 3), "stream": end}
    level = logging.ERROR if end is StreamEnd.FAILED else logging.INFO
    if logger.isEnabledFor(level):
        _write(level, fields, failure)


def _write(level: int, fields: dict[str, Any], failure: Exception | None) -> None:
    """Write a line that has fields and no message."""
    if isinstance(failure, RequestRefused):
        fields["error"] = _reason(failure.detail)
        failure = None
    cause = (type(failure), failure, failure.__traceback__) if failure else None
    # `logger.log` would also look for the calling line of code, which we do not log.
    record = logger.makeRecord(logger.name, level, "", 0, "", (), cause, extra={"fields": fields})
    logger.handle(record)


def _reason(detail: object) -> object:
    """Return why a request was refused: of a list of faults, field and reason, never the value."""
    if not isinstance(detail, list):
        return detail
    return "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in detail)


def _fields(request: FinishedRequest) -> dict[str, Any]:
    fields = {
        "request_id": request.request_id,
        "method": request.method,
        "path": request.path,
        "status": request.status,
        "latency_ms": round(request.latency_ms, 3),
    }
    if outcome := request.outcome:
        if outcome.message_id is not None:
            fields["message_id"] = outcome.message_id
        fields["dup"] = outcome.result is Result.DUPLICATE
        fields["result"] = outcome.result
        if outcome.conflict:
            fields["conflict"] = True
        if counts := outcome.counts:
            fields["provider"] = counts.provider
            for name in ("messages", "statuses", "events"):
                if numbers := getattr(counts, name):
                    fields[name] = dict(numbers)
            for name in ("error_codes", "dead_letters", "reason"):
                if value := getattr(counts, name):
                    fields[name] = value
        if request.status == HTTPStatus.UNAUTHORIZED and outcome.checked_url:
            fields["checked_url"] = outcome.checked_url
    if request.status == HTTPStatus.UNAUTHORIZED:
        fields["client"] = request.environ.get("REMOTE_ADDR", "")  # or the last proxy's
        if _ADDRESSES.fullmatch(forwarded := request.environ.get("HTTP_X_FORWARDED_FOR", "")):
            fields["forwarded_for"] = forwarded
    if _PLAIN_ID.fullmatch(client_id := request.environ.get("HTTP_X_REQUEST_ID", "")):
        fields["client_request_id"] = client_id
    return fields


def _level_of(request: FinishedRequest) -> int:
    if request.status >= 500 or request.status == HTTPStatus.UNAUTHORIZED:
        return logging.ERROR
    counts = request.outcome.counts if request.outcome else None
    told = counts is not None and (counts.dead_letters or counts.error_codes)
    return logging.WARNING if request.status >= 400 or told else logging.INFO
