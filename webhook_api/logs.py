"""Logs: JSON, one object a line. `web/hooks.py` makes the line of a request and its level."""

import json
import logging
import sys
import time
import traceback
from functools import lru_cache
from typing import Any, NoReturn, TextIO

from webhook_api.models import mended

logger = logging.getLogger(__name__)

# Longer lines from several processes mix on a pipe (PIPE_BUF, pipe(7)).
MAX_LINE_BYTES = 4000
EXIT_CONFIG = 78  # sysexits.h
_ascii = json.JSONEncoder(default=str).encode
_unicode = json.JSONEncoder(default=str, ensure_ascii=False).encode


class JsonFormatter(logging.Formatter):
    """Turns a record into one line; `extra={"fields": {...}}` become members of the object."""

    def format(self, record: logging.LogRecord) -> str:
        seconds, milliseconds = divmod(int(record.created * 1000), 1000)
        line: dict[str, Any] = {
            "ts": f"{_date_and_time(seconds)}.{milliseconds:03}Z",
            "level": record.levelname,
        }
        if message := record.getMessage():
            line["message"] = message
            line["logger"] = record.name
        line |= getattr(record, "fields", {})
        if record.exc_info and record.exc_info[1]:
            line["traceback"] = "".join(traceback.format_exception(record.exc_info[1]))
        return _clip(line)


@lru_cache(maxsize=1)  # The lines of one second share it.
def _date_and_time(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


def _clip(line: dict[str, Any]) -> str:
    """Return `line` as JSON, its longest texts cut until it is short enough."""
    encoded = _encode(line)
    while len(encoded) > MAX_LINE_BYTES:
        longest = max(line, key=lambda name: len(_encode(line[name])))
        text = str(line[longest])
        # The end of a traceback says what happened.
        keep = len(text) // 2
        line[longest] = "..." + text[-keep:] if longest == "traceback" else text[:keep] + "..."
        encoded = _encode(line)
    return encoded


def _encode(value: object) -> str:
    """Return `value` as JSON; half an emoji, at which `jq` stops, becomes U+FFFD."""
    encoded = _ascii(value)
    return _ascii(json.loads(mended(_unicode(value)))) if "\\ud" in encoded else encoded


def configure_logs(level: str) -> None:
    """Send all records of `level` and above to stdout as JSON."""
    logging.getLogger().setLevel(level)
    send_logs_to(sys.stdout)


def send_logs_to(stream: TextIO) -> None:
    """Send all records to `stream` from now on."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    logging.getLogger().handlers[:] = [handler]


def fail_start(reason: object) -> NoReturn:
    """End the process with one line that says why it cannot serve."""
    configure_logs("INFO")
    logger.critical("start failed: %s", reason)
    sys.exit(EXIT_CONFIG)
