"""What a stop or a reload costs under load: `python -m tests.tools.signals --times 50`.

32 clients deliver without a pause. A delivery fails if its connection is reset or silent, or if
it was answered 200 and is not stored. One that could not connect does not count: the service has
closed its listener, and the provider delivers again.
"""

import os
import random
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import click

from tests.serving import Load, Server, serving
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
    lost: int = 0
    slowest_s: float = 0.0

    def add(self, load: Load, server: Server, *, stopped: bool) -> None:
        """Add what `load` saw; after a stop, nobody listens any more."""
        failed = [type(each).__name__ for each in load.failures]
        self.failed.update(name for name in failed if not stopped or "Refused" not in name)
        self.statuses += load.statuses
        self.lost += len(load.acknowledged - server.ids())


@contextmanager
def loaded() -> Iterator[tuple[Server, Load]]:
    """Run a service under load, until the block ends."""
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(Path(folder), WEB_CONCURRENCY=_WORKERS) as server,
        Load(server, "load", threads=_CLIENTS, timeout_s=15) as load,
    ):
        load.more(_WARM_UP)
        yield server, load


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


def stop_once(send: Send, seen: Seen) -> None:
    """Start a service, load it, and stop it so."""
    with loaded() as (server, load):
        time.sleep(random.random() * 0.3)
        began = time.monotonic()
        send(server)
        server.process.wait(_STOP_S)
        seen.slowest_s = max(seen.slowest_s, time.monotonic() - began)
        load.end()
        seen.add(load, server, stopped=True)


def reload_often(times: int, seen: Seen) -> None:
    """Start a service, load it, and replace its workers so many times."""
    with loaded() as (server, load):
        for _ in range(times):
            before = server.wait_for_workers(_WORKERS)
            began = time.monotonic()
            server.process.send_signal(signal.SIGHUP)
            server.wait_for_workers(_WORKERS, but=before)
            seen.slowest_s = max(seen.slowest_s, time.monotonic() - began)
            time.sleep(random.random() * 0.3)
        load.end()
        seen.add(load, server, stopped=False)


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
            reload_often(times, total)
        else:
            for _ in range(times):
                stop_once(STOPS[name], total)
        failures = ", ".join(f"{count} {kind}" for kind, count in total.failed.items())
        others = {status: count for status, count in total.statuses.items() if status != 200}
        row = [name, times, total.statuses[200], failures or "0", total.lost, others or "none"]
        rows.append([*row, f"{total.slowest_s:.2f}"])
        click.echo(f"{name}: done", err=True)
    head = ("", "times", "stored", "failed", "lost", "other answers", "slowest, s")
    show_table(head, rows)


if __name__ == "__main__":
    main()
