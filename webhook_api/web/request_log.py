"""The log of requests: exactly one line for each, and an id that the answer carries, too."""

import logging
import os
import re
import time
from functools import partial
from typing import Any

from flask import Flask, Response, current_app, g, request

from webhook_api.errors import RequestRefused
from webhook_api.web.floods import LineLimit
from webhook_api.web.outcome import current_outcome
from webhook_api.web.streams import StreamedReply, StreamEnd

logger = logging.getLogger(__name__)

MOST_UNSIGNED_LINES = 10  # a second: anybody can cause them, and errors of ours would rotate away
REQUEST_ID_HEADER = "X-Request-ID"
_PLAIN_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")


def init_logs(app: Flask) -> None:
    """Give each request an id and, when it is answered, its line; see also `close_logs`.

    Of the lines of deliveries that are not signed, the most are left out in a flood, and counted.
    """
    app.extensions["unsigned_lines"] = LineLimit(MOST_UNSIGNED_LINES)
    app.before_request(_begin)
    app.after_request(_log_request)


def close_logs(app: Flask) -> None:
    """Say how many lines were left out since that was last said."""
    _log_left_out(app.extensions["unsigned_lines"], at_end=True)


def _begin() -> None:
    g.started = time.perf_counter()
    g.request_id = os.urandom(16).hex()


def latency_ms() -> float:
    """Return the milliseconds since the current request began."""
    return _ms_since(float(g.started))


def _ms_since(started: float) -> float:
    return (time.perf_counter() - started) * 1000


def _log_request(response: Response) -> Response:
    response.headers[REQUEST_ID_HEADER] = g.request_id
    limit: LineLimit = current_app.extensions["unsigned_lines"]
    _log_left_out(limit)
    if response.status_code == 401 and not limit.admits():
        return response
    if isinstance(response, StreamedReply):
        # Its level is known when it has ended.
        fields = _request_fields(response)
        response.sending.when_ended = partial(_log_stream, fields, g.started)
    elif logger.isEnabledFor(level := _level(response.status_code)):
        _write(level, _request_fields(response), g.get("failure"))
    return response


def _log_left_out(limit: LineLimit, *, at_end: bool = False) -> None:
    if left_out := limit.left_out(at_end=at_end):
        logger.error(
            "lines of requests with this status were left out",
            extra={"fields": {"status": 401, "left_out": left_out}},
        )


def _log_stream(
    fields: dict[str, Any], started: float, end: StreamEnd, failure: Exception | None
) -> None:
    """Write the line of a request whose answer was a stream, when that has ended."""
    fields |= {"latency_ms": round(_ms_since(started), 3), "stream": end}
    _write(logging.ERROR if end is StreamEnd.FAILED else logging.INFO, fields, failure)


def _write(level: int, fields: dict[str, Any], failure: Exception | None) -> None:
    if isinstance(failure, RequestRefused):
        fields["error"] = failure.detail
        failure = None
    logger.log(level, "", extra={"fields": fields}, exc_info=failure)


def _request_fields(response: Response) -> dict[str, Any]:
    fields = {
        "request_id": g.request_id,
        "method": request.method,
        "path": request.path,
        "status": response.status_code,
        "latency_ms": round(latency_ms(), 3),
    }
    if outcome := current_outcome():
        if outcome.message_id is not None:
            fields["message_id"] = outcome.message_id
        fields["dup"] = outcome.duplicate
        fields["result"] = outcome.result
        if outcome.conflict:
            fields["conflict"] = True
        if tally := outcome.tally:
            fields["provider"] = tally.provider
            for name in ("messages", "skipped", "statuses"):
                if counts := getattr(tally, name):
                    fields[name] = dict(counts)
    client_request_id = request.headers.get(REQUEST_ID_HEADER, "")
    if _PLAIN_ID.fullmatch(client_request_id):
        fields["client_request_id"] = client_request_id
    return fields


def _level(status: int) -> int:
    if status >= 500 or status == 401:
        return logging.ERROR
    return logging.WARNING if status >= 400 else logging.INFO
