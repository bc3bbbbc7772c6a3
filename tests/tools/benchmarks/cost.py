"""What a request costs in one process: `python -m tests.tools.benchmarks.cost`.

Nothing else may run. Microseconds of CPU: the least of many short runs, which other work on the
machine moves least. Log lines go to /dev/null; metrics to files that are mapped, as in a worker.
"""

import os
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from io import BytesIO
from pathlib import Path
from typing import Any

import click
from flask import Flask
from prometheus_client import values
from werkzeug.test import EnvironBuilder

from tests.builders import SECRET, encode, signed
from tests.tools.benchmarks import plain
from tests.tools.benchmarks.apps import ceiling
from tests.tools.benchmarks.data import messages
from tests.tools.benchmarks.harness import show_table
from webhook_api.config import Config
from webhook_api.logs import send_logs_to

_CALLS = 100  # in one run

Call = Callable[[], object]


def _in_application(app: Flask, answer: int, **request: Any) -> Call:
    """Return a function that sends a request to the application, which must answer `answer`."""
    with closing(EnvironBuilder(**request)) as builder:
        environ = builder.get_environ()
    body = environ["wsgi.input"].read()

    def start_response(status: str, _headers: object, _error: object = None) -> Any:
        if not status.startswith(str(answer)):
            raise click.ClickException(f"answered with {status}")

    def call() -> None:
        parts: Any = app.wsgi_app(environ | {"wsgi.input": BytesIO(body)}, start_response)
        b"".join(parts)
        if hasattr(parts, "close"):
            parts.close()

    return call


def _calls(folder: Path) -> dict[str, Call]:
    """Return what to measure."""
    bare = plain.bare()
    config = Config(webhook_secret=SECRET, database_path=folder / "app.db")
    app = ceiling(config)  # whose log goes to stdout
    send_logs_to(Path(os.devnull).open("w"))  # noqa: SIM115 - as long as the process
    body = encode(next(messages(1)))
    right = {"Content-Type": "application/json", **signed(body)}
    wrong = right | {"X-Signature": "0" * 64}
    live, webhook = "/health/live", "/webhook"

    def get(app: Flask) -> Call:
        return _in_application(app, 200, path=live)

    def post(app: Flask, headers: Mapping[str, str], answer: int) -> Call:
        return _in_application(app, answer, path=webhook, method="POST", headers=headers, data=body)

    return {
        "bare Flask, /health/live": get(bare),
        "bare Flask, /webhook": post(bare, right, 200),
        "/health/live": get(app),
        "a delivery, not stored": post(app, right, 200),
        "a wrong signature": post(app, wrong, 401),
    }


def _microseconds(call: Call) -> float:
    started = time.process_time_ns()
    for _ in range(_CALLS):
        call()
    return (time.process_time_ns() - started) / _CALLS / 1000


@click.command()
@click.option("--runs", default=100, show_default=True, help="How many short runs of each.")
def main(runs: int) -> None:
    """Print the CPU time of a request, in microseconds."""
    with tempfile.TemporaryDirectory(prefix="webhook-cost-") as name:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = name
        values.ValueClass = values.MultiProcessValue(lambda: 0)  # type: ignore[no-untyped-call]
        calls = _calls(Path(name))
        least = dict.fromkeys(calls, float("inf"))
        for _ in range(runs):
            for what, call in calls.items():
                least[what] = min(least[what], _microseconds(call))
    bare, *_others = least.values()
    show_table(
        ("CPU µs", "in the application", "times bare"),
        [[what, f"{cpu:.0f}", f"{cpu / bare:.2f}"] for what, cpu in least.items()],
    )


if __name__ == "__main__":
    main()
