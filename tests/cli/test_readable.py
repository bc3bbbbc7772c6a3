"""The log for people: our lines become readable, others are not changed."""

import io
import json
import subprocess
import sys
from typing import Any

import pytest

from tests.serving import ROOT
from webhook_api.cli.readable import main, readable

SCRIPT = ROOT / "webhook_api/cli/readable.py"


def line(**fields: Any) -> str:
    return json.dumps({"ts": "2026-01-15T10:00:00.123Z", "level": "INFO", **fields})


DELIVERY: dict[str, Any] = {
    "request_id": "0123", "method": "POST", "path": "/webhook", "status": 200, "latency_ms": 3.25,
    "message_id": "m1", "dup": False, "result": "created",
}  # fmt: skip


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (line(**DELIVERY),
         "2026-01-15 10:00:00.123  INFO     POST /webhook  200  created  m1  3.25 ms"),
        (line(level="WARNING", method="GET", path="/messages", status=422, latency_ms=1),
         "2026-01-15 10:00:00.123  WARNING  GET  /messages  422  1 ms"),
        (line(message="Booting worker", logger="gunicorn.error"),
         "2026-01-15 10:00:00.123  INFO     Booting worker"),
        (line(**{**DELIVERY, "status": 503}, error="disk full", conflict=True),
         "2026-01-15 10:00:00.123  INFO     POST /webhook  503  created  m1  3.25 ms"
         "  error=disk full  conflict=True"),
        (line(message="failed", traceback="Traceback:\n  KeyError\n"),
         "2026-01-15 10:00:00.123  INFO     failed\n    Traceback:\n      KeyError"),
        (line(**{**DELIVERY, "message_id": "\x1b[2J\n"}),
         "2026-01-15 10:00:00.123  INFO     POST /webhook  200  created  \ufffd[2J\ufffd  3.25 ms"),
        (line(message="failed", traceback="Traceback:\n  KeyError: '\x1b[2J\x9b2J\u202e'\n"),
         "2026-01-15 10:00:00.123  INFO     failed\n    Traceback:\n"
         "      KeyError: '\ufffd[2J\ufffd2J\ufffd'"),
        (line(level="\x1b]0;\x07"),
         "2026-01-15 10:00:00.123  \ufffd]0;\ufffd    "),
        ("not JSON \x1b[31m\tred", "not JSON \ufffd[31m\tred"),
    ],
    ids=["delivery", "read", "message", "more fields", "traceback", "control characters",
         "controls in a traceback", "controls in a level", "controls without JSON"],
)  # fmt: skip
def test_a_line_becomes_readable(given: str, shown: str) -> None:
    assert readable(given, colours=False) == shown


@pytest.mark.parametrize("other", ["", "plain text", "[1]", '{"a": 1}', "{broken"])
def test_other_lines_are_not_changed(other: str) -> None:
    assert readable(other, colours=True) == other


def test_only_a_terminal_gets_colours() -> None:
    shown = []
    for out in (io.StringIO(), Terminal()):
        main(io.StringIO(line(level="ERROR", message="failed") + "\n"), out)
        shown.append(out.getvalue())

    assert shown[1] == f"\x1b[31m{shown[0].rstrip()}\x1b[0m\n"


def test_it_needs_nothing_but_python() -> None:
    # -S: without what is installed; -I: without the project.
    run = subprocess.run(
        [sys.executable, "-I", "-S", SCRIPT], input=line(**DELIVERY) + "\n", text=True,
        capture_output=True, check=False,
    )  # fmt: skip

    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.endswith("POST /webhook  200  created  m1  3.25 ms\n")
