"""The work around every request: one hook before it, and one after it.

A single one each, because each access through one of Flask's proxies takes half a microsecond.
"""

import random
import time

from flask import Flask, Response, g, request

from webhook_api.web.answered import Answered
from webhook_api.web.headers import set_headers
from webhook_api.web.metrics import Metrics
from webhook_api.web.request_log import log_request

REQUEST_ID_HEADER = "X-Request-ID"


def init_hooks(app: Flask, metrics: Metrics) -> None:
    """Give each request an id; when it is answered, set its headers, count it and log it."""

    @app.before_request
    def begin() -> None:
        current = g._get_current_object()
        current.started = time.perf_counter()
        current.request_id = new_request_id()

    @app.after_request
    def end(response: Response) -> Response:
        current = g._get_current_object()
        asked = request._get_current_object()  # type: ignore[attr-defined]
        answered = Answered(
            request_id=current.request_id,
            client_request_id=asked.environ.get("HTTP_X_REQUEST_ID", ""),
            client=asked.environ.get("REMOTE_ADDR", ""),
            forwarded_for=asked.environ.get("HTTP_X_FORWARDED_FOR", ""),
            method=asked.method,
            path=asked.path,
            rule=asked.url_rule.rule if asked.url_rule else None,
            status=response.status_code,
            started=current.started,
            latency_ms=(time.perf_counter() - current.started) * 1000,
            outcome=current.get("outcome"),
            failure=current.get("refusal") or current.get("failure"),
        )
        metrics.count(answered)
        set_headers(response.headers)
        response.headers.add(REQUEST_ID_HEADER, answered.request_id)
        log_request(answered, response)
        return response


def new_request_id() -> str:
    """Return 32 hexadecimal digits that no other request has, in any process.

    They can be guessed, which does no harm. Python gives each forked process its own seed.
    """
    return f"{random.getrandbits(128):032x}"
