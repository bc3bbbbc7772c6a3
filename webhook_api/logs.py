"""Logs: JSON on stdout, one object a line, and exactly one line for each request."""

import atexit
import json
import logging
import re
import sys
import time
import traceback
import uuid
from datetime import UTC, datetime
from functools import partial
from typing import Any, NoReturn, TextIO

from flask import Flask, Response, current_app, g, request

from webhook_api.errors import RequestRefused
from webhook_api.floods import LineLimit
from webhook_api.outcome import current_outcome
from webhook_api.streams import StreamedReply, StreamEnd

logger = logging.getLogger(__name__)

# Longer lines from several processes mix on a pipe (PIPE_BUF, pipe(7)).
MAX_LINE_BYTES = 4000
EXIT_CONFIG = 78  # sysexits.h
MOST_UNSIGNED_LINES = 10  # a second: anybody can cause them, and errors of ours would rotate away
REQUEST_ID_HEADER = "X-Request-ID"
_PLAIN_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
_encode = json.JSONEncoder(default=str).encode


class JsonFormatter(logging.Formatter):
    """Turns a record into one line; `extra={"fields": {...}}` become members of the object."""

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC)
        line: dict[str, Any] = {
            "ts": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname,
        }
        if message := record.getMessage():
            line["message"] = message
            line["logger"] = record.name
        line |= getattr(record, "fields", {})
        if record.exc_info and record.exc_info[1]:
            line["traceback"] = "".join(traceback.format_exception(record.exc_info[1]))
        return _clip(line)


def _clip(line: dict[str, Any]) -> str:
    """Return `line` as JSON, its longest texts cut until it is short enough."""
    encoded = _encode(line)
    while len(encoded) > MAX_LINE_BYTES:
        longest = max(line, key=lambda name: len(_encode(line[name])))
        text = str(line[longest])
        # Of a traceback, the end says what happened.
        keep = len(text) // 2
        line[longest] = "..." + text[-keep:] if longest == "traceback" else text[:keep] + "..."
        encoded = _encode(line)
    return encoded


def configure_logs(level: str, stream: TextIO | None = None) -> None:
    """Send all records of `level` and above to `stream` (default: stdout) as JSON."""
    handler = logging.StreamHandler(stream or sys.stdout)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)


def fail_start(reason: object) -> NoReturn:
    """End the process with one line that says why it cannot serve."""
    configure_logs("INFO")
    logger.critical("start failed: %s", reason)
    sys.exit(EXIT_CONFIG)


def init_logs(app: Flask) -> None:
    """Give each request an id and, when it is answered, its line.

    Of the lines of deliveries that are not signed, the most are left out in a flood, and counted.
    """
    limit = app.extensions["unsigned_lines"] = LineLimit(MOST_UNSIGNED_LINES)
    atexit.register(_log_left_out, limit, at_end=True)
    app.before_request(_begin)
    app.after_request(_log_request)


def _begin() -> None:
    g.started = time.perf_counter()
    g.request_id = uuid.uuid4().hex


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
            "lines of requests like these were left out",
            extra={"fields": {"path": "/webhook", "status": 401, "left_out": left_out}},
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
