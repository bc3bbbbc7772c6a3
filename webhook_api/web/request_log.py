"""The log of requests: one line for each."""

import logging
import re
import time
from functools import partial
from http import HTTPStatus
from typing import Any

from flask import Response

from webhook_api.errors import RequestRefused
from webhook_api.outcome import FinishedRequest, Result
from webhook_api.web.streams import StreamedResponse, StreamEnd

logger = logging.getLogger(__name__)

_ADDRESSES = re.compile(r"[0-9a-fA-F.:, ]{1,200}")
_PLAIN_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")


def log_request(request: FinishedRequest, response: Response) -> None:
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
