"""Commands in the tests: run in this process or in one of their own."""

import json
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.builders import SECRET, a_message
from tests.forks import Command
from tests.serving import ROOT, inherited

ODD_TEXTS = [
    None,
    "",
    "a\0b",
    "\x01\x1f\x7f\x85\u2028\ufeff",
    '"quoted" \\ %_*',
    "À L'ÉCOLE 🏫\U0010ffff",
    "x" * 4096,
]


def as_lines(*payloads: object) -> bytes:
    return b"".join(json.dumps(payload).encode() + b"\n" for payload in payloads)


def some_messages(count: int) -> bytes:
    return as_lines(
        *(
            a_message(
                message_id=f"m{number}",
                sender=f"+{number % 7}",
                ts=f"2025-01-15T{number % 24:02}:00:00Z",
            )
            for number in range(count)
        )
    )


@contextmanager
def limited(resource_: int, most: int) -> Iterator[None]:
    """Let this process have only so much of a resource (getrlimit(2))."""
    _, hard = allowed = resource.getrlimit(resource_)
    resource.setrlimit(resource_, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource_, allowed)


def environment(database: Path) -> dict[str, Any]:
    return {"WEBHOOK_SECRET": SECRET, "DATABASE_URL": f"sqlite:///{database}"}


def command(database: Path, *args: object, **settings: str) -> Command:
    """Start a command in a process of its own, which need not import the service."""
    return _start(*args, **environment(database) | settings)


def forked(*args: object, stdin_closed: bool = False, **environ: str) -> tuple[int, str, str]:
    """Run a command in such a process; return exit code, stdout and stderr."""
    started = _start(*args, stdin_closed=stdin_closed, **environ)
    stdout, stderr = started.communicate(60)
    return started.wait(), stdout, stderr


def _start(*args: object, stdin_closed: bool = False, **environ: str) -> Command:
    return Command(
        ["flask", "--app", "wsgi", *map(str, args)],
        cwd=ROOT,
        env={**inherited(), "FLASK_SKIP_DOTENV": "1", **environ},
        stdin_closed=stdin_closed,
    )


def start_in_a_shell(*args: object, **environ: str) -> subprocess.Popen[bytes]:
    """Start `flask --app wsgi` as an operator does."""
    return subprocess.Popen(
        [sys.executable, "-m", "flask", "--app", "wsgi", *map(str, args)],
        cwd=ROOT,
        env={**inherited(), "FLASK_SKIP_DOTENV": "1", **environ},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
