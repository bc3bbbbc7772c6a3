"""Makes the JSON log readable for people: `docker compose logs --no-log-prefix api | python3 THIS`.

`make logs` runs this file on the host, so it needs only the standard library of Python 3.8 or
later. It does not change lines that are not JSON objects.
"""

import json
import sys
from typing import Any, Dict, TextIO  # noqa: UP035 - older versions of Python

_COLOURS = {"ERROR": "31", "CRITICAL": "31;1", "WARNING": "33", "DEBUG": "2"}
# These have their own place, or are of no use to people.
_PLACED = {
    "ts", "level", "method", "path", "status", "result", "latency_ms", "message_id", "message",
    "logger", "request_id", "dup", "traceback",
}  # fmt: skip


def readable(line: str, *, colours: bool) -> str:
    """Return a log line for people; of a line that is no JSON object only controls are replaced."""
    try:
        fields = json.loads(line)
    except ValueError:
        return _plain(line)
    if not isinstance(fields, dict) or "ts" not in fields:
        return _plain(line)
    level = str(fields.get("level", ""))
    time = str(fields["ts"]).replace("T", " ").rstrip("Z")
    text = _plain(f"{time}  {level:<8} {_what(fields)}")
    if colours and level in _COLOURS:
        text = f"\x1b[{_COLOURS[level]}m{text}\x1b[0m"
    if "traceback" in fields:
        text += "".join(
            "\n    " + _plain(part) for part in str(fields["traceback"]).rstrip().split("\n")
        )
    return text


def _what(fields: Dict[str, Any]) -> str:  # noqa: UP006
    if "method" in fields:
        parts = [f"{fields['method']:<4} {fields.get('path')}", str(fields.get("status"))]
        parts += [str(fields[name]) for name in ("result", "message_id") if name in fields]
        parts.append(f"{fields.get('latency_ms')} ms")
    else:
        parts = [str(fields.get("message", ""))]
    parts += [f"{name}={value}" for name, value in fields.items() if name not in _PLACED]
    return "  ".join(parts)


def _plain(text: str) -> str:
    """Replace what would control a terminal, like `plain` in `command.py`."""
    return "".join(c if c.isprintable() or c == "\t" else "\ufffd" for c in text)


def main(lines: TextIO, out: TextIO) -> None:
    """Write each of `lines` to `out` as soon as it comes; in colour on a terminal."""
    for line in lines:
        print(readable(line.rstrip("\n"), colours=out.isatty()), file=out, flush=True)


if __name__ == "__main__":
    try:
        main(sys.stdin, sys.stdout)
    except (KeyboardInterrupt, BrokenPipeError):
        sys.exit(0)
