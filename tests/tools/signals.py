"""What a stop or a reload costs under load: `python -m tests.tools.signals --times 50`.

32 clients deliver without a pause. A delivery fails if its connection is reset or silent, or if
it was answered 200 and is not stored. One that could not connect does not count: the service has
closed its listener, and the provider delivers again.
"""

import http.client
import os
import random
import signal
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import click

from tests.serving import Server, serving, wait_until
from tests.tools.benchmarks.harness import show_table

_CLIENTS = 32
_WORKERS = 2
_STOP_S = 40.0
_BETWEEN_S = 0.1  # two signals
_WARM_UP = 200  # deliveries before the first signal

Send = Callable[[Server], None]


@dataclass
class Seen:
    """What the clients saw."""

    statuses: Counter[int] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    acknowledged: list[str] = field(default_factory=list)
    lost: int = 0
    slowest_s: float = 0.0

    def add(self, other: "Seen") -> None:
        self.statuses += other.statuses
        self.failed += other.failed
        self.lost += other.lost
        self.slowest_s = max(self.slowest_s, other.slowest_s)


class Clients:
    """They deliver until the `with` block ends, or until nobody listens any more."""

    def __init__(self, server: Server, prefix: str, seen: Seen, *, stops: bool) -> None:
        self._server = server
        self._stops = stops
        self._seen = seen
        self._going = True
        names = [f"{prefix}-{number}" for number in range(_CLIENTS)]
        self._threads = [threading.Thread(target=self._deliver, args=[name]) for name in names]

    def __enter__(self) -> None:
        for thread in self._threads:
            thread.start()
        wait_until(lambda: len(self._seen.acknowledged) > _WARM_UP, 30)

    def __exit__(self, *_exception: object) -> None:
        self._going = False
        for thread in self._threads:
            thread.join()

    def _deliver(self, name: str) -> None:
        sent = 0
        with self._server.client(timeout_s=15) as client:
            while self._going:
                sent += 1
                message_id = f"{name}-{sent}"
                try:
                    status = client.deliver(message_id=message_id).status
                except ConnectionRefusedError:
                    if self._stops:
                        return
                    self._seen.failed["refused"] += 1
                except (OSError, http.client.HTTPException) as error:
                    self._seen.failed[type(error).__name__] += 1
                    continue
                self._seen.statuses[status] += 1
                if status == 200:
                    self._seen.acknowledged.append(message_id)


def to_master(number: signal.Signals, times: int = 1) -> Send:
    def send(server: Server) -> None:
        for turn in range(times):
            if turn:
                time.sleep(_BETWEEN_S)
            server.process.send_signal(number)

    return send


def to_group(number: signal.Signals, times: int = 1) -> Send:
    """Return what sends it to the master and all workers, as a terminal does."""

    def send(server: Server) -> None:
        for turn in range(times):
            if turn:
                time.sleep(_BETWEEN_S)
            if server.process.poll() is None:
                os.killpg(server.process.pid, number)

    return send


STOPS: dict[str, Send] = {
    "SIGTERM": to_master(signal.SIGTERM),
    "SIGTERM twice": to_master(signal.SIGTERM, 2),
    "SIGTERM to the group": to_group(signal.SIGTERM),
    "SIGINT": to_master(signal.SIGINT),
    "SIGINT twice": to_master(signal.SIGINT, 2),
    "SIGINT to the group": to_group(signal.SIGINT),
    "SIGINT to the group, twice": to_group(signal.SIGINT, 2),
}


def stop_once(send: Send) -> Seen:
    """Start a service, load it, and stop it so."""
    seen = Seen()
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(Path(folder), WEB_CONCURRENCY=_WORKERS) as server,
    ):
        with Clients(server, "stop", seen, stops=True):
            time.sleep(random.random() * 0.3)
            began = time.monotonic()
            send(server)
            server.process.wait(_STOP_S)
            seen.slowest_s = time.monotonic() - began
        seen.lost = len(set(seen.acknowledged) - server.ids())
    return seen


def reload_often(times: int) -> Seen:
    """Start a service, load it, and replace its workers so many times."""
    seen = Seen()
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(Path(folder), WEB_CONCURRENCY=_WORKERS) as server,
    ):
        with Clients(server, "hup", seen, stops=False):
            for _ in range(times):
                wait_until(lambda: len(server.workers) == _WORKERS, _STOP_S)
                before = set(server.workers)
                began = time.monotonic()
                server.process.send_signal(signal.SIGHUP)
                wait_until(lambda old=before: _replaced(server, old), _STOP_S)  # type: ignore[misc]
                seen.slowest_s = max(seen.slowest_s, time.monotonic() - began)
                time.sleep(random.random() * 0.3)
        seen.lost = len(set(seen.acknowledged) - server.ids())
    return seen


def _replaced(server: Server, before: set[int]) -> bool:
    return len(server.workers) == _WORKERS and not before & set(server.workers)


@click.command()
@click.option("--times", default=50, show_default=True, help="Each signal.")
@click.option("--only", help="One of them, such as SIGINT or SIGHUP.")
def main(times: int, only: str | None) -> None:
    """Stop and reload the service under load, and count the deliveries that fail."""
    rows = []
    for name in [*STOPS, "SIGHUP"]:
        if only and only != name:
            continue
        total = Seen()
        if name == "SIGHUP":
            total = reload_often(times)
        else:
            for _ in range(times):
                total.add(stop_once(STOPS[name]))
        failures = ", ".join(f"{count} {kind}" for kind, count in total.failed.items())
        others = {status: count for status, count in total.statuses.items() if status != 200}
        row = [name, times, total.statuses[200], failures or "0", total.lost, others or "none"]
        rows.append([*row, f"{total.slowest_s:.2f}"])
        click.echo(f"{name}: done", err=True)
    head = ("", "times", "stored", "failed", "lost", "other answers", "slowest, s")
    show_table(head, rows)


if __name__ == "__main__":
    main()
