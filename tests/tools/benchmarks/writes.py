"""How fast POST /webhook is: `python -m tests.tools.benchmarks.writes --help`.

Every comparison is of servers that run side by side and are measured in turn, in several short
rounds: on a machine with other work to do, nothing else says anything.
"""

import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path

import click

from tests.builders import encode, signed
from tests.tools.benchmarks.data import messages
from tests.tools.benchmarks.harness import (
    FIRST_PORT,
    HERE,
    Measured,
    Server,
    middle,
    require,
    show_table,
)

_MOST_PER_SECOND = 9000  # deliveries that any of the servers can take
_WARM_UP_S = 1.0
GTHREAD = ["-k", "gthread", "-w", "2", "--threads", "16"]  # of the bare applications

_LIVE_CONNECTIONS = (1, 32)
_HEAD = (
    *("", "requests/s", "p50 ms", "p99 ms", "CPU µs", "switches"),
    *("batch", "commit ms", "service / this", "failed"),
)

Rounds = dict[str, list[Measured]]  # by server


class Bodies:
    """Files of signed deliveries, one for each round; all servers get the same."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seeds = count(1)

    def fresh(self, seconds: float) -> Path:
        """Return a file of deliveries that were never sent, enough for so many seconds."""
        path = self._folder / "bodies"
        with path.open("wb") as file:
            for message in messages(int(seconds * _MOST_PER_SECOND), seed=next(self._seeds)):
                body = encode(message)
                file.write(b"%s %s\n" % (signed(body)["X-Signature"].encode(), body))
        return path


def _slower_fsync(folder: Path, milliseconds: float) -> dict[str, str]:
    """Return the environment that makes a server's fsync slower."""
    if not milliseconds:
        return {}
    compiler = require(os.environ.get("CC", "cc"), "to make fsync slow, or use --fsync-ms 0")
    library = folder / "slow_fsync.so"
    source = HERE / "slow_fsync.c"
    subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-o", library, source], check=True)
    return {"LD_PRELOAD": str(library), "SLOW_FSYNC_US": f"{milliseconds * 1000:.0f}"}


def _contenders(compare: str, folder: Path, delays: Sequence[float]) -> list[Server]:
    """Return the servers to compare; the first is the service with its defaults.

    `delays` are the milliseconds that an fsync takes longer: one for all servers, or to compare.
    """
    environment = _slower_fsync(folder, delays[0])

    def server(number: int, name: str, app: str = "wsgi:app", **settings: str) -> Server:
        return Server(
            name=name,
            port=FIRST_PORT + number,
            folder=folder / str(number),
            app=app,
            environment=environment | settings,
        )

    def plain(number: int, name: str, app: str, *arguments: str) -> Server:
        """Return Gunicorn without our settings: those of an empty module take their place."""
        one = server(number, name, f"tests.tools.benchmarks.plain:{app}()")
        ours = ["-c", "python:tests.tools.benchmarks", "-b", f"127.0.0.1:{one.port}"]
        one.arguments = [*ours, *arguments]
        return one

    if compare == "fsync":
        return [
            server(number, f"fsync +{ms:g} ms", **_slower_fsync(folder, ms))
            for number, ms in enumerate(delays)
        ]
    servers = [server(0, "service")]
    if compare == "designs":
        servers.append(server(1, "a: no database", "tests.tools.benchmarks.apps:ceiling()"))
        servers.append(server(2, "b: bare Flask", "tests.tools.benchmarks.apps:bare()"))
        servers.append(plain(3, "c: bare Flask, gthread 2x16", "bare", *GTHREAD))
        servers.append(plain(4, "d: first version, sync x 2", "first_version", "-w", "2"))
    elif compare == "index":
        servers.append(server(1, "no search index", "tests.tools.benchmarks.apps:unindexed()"))
    elif "=" in compare:
        servers.append(server(1, compare, **dict(pair.split("=") for pair in compare.split(","))))
    elif Path(compare).is_dir():
        servers.append(server(1, Path(compare).name))
        servers[1].root = Path(compare)
    else:
        for number, pair in enumerate(compare.split(","), start=1):
            workers, threads = pair.split("x")
            settings = {"WEB_CONCURRENCY": workers, "WEB_THREADS": threads}
            servers.append(server(number, f"{workers} x {threads}", **settings))
    return servers


def _race(
    servers: Sequence[Server], bodies: Bodies, connections: int, rounds: int, seconds: float
) -> Rounds:
    """Deliver to all of them, in turn."""
    measured: Rounds = {server.name: [] for server in servers}
    for turn in range(rounds):
        path = bodies.fresh(seconds)
        for server in in_turn(servers, turn):
            measured[server.name].append(server.post(path, connections, seconds))
    return measured


def _race_live(servers: Sequence[Server], connections: int, rounds: int, seconds: float) -> Rounds:
    """Request /health/live of all of them: the cost of a request that does nothing."""
    measured: Rounds = {server.name: [] for server in servers}
    for turn in range(rounds):
        for server in in_turn(servers, turn):
            measured[server.name].append(server.get("/health/live", connections, seconds))
    return measured


def in_turn(servers: Sequence[Server], turn: int) -> list[Server]:
    first = turn % len(servers)
    return [*servers[first:], *servers[:first]]


@contextmanager
def _neighbour(folder: Path) -> Iterator[None]:
    """Keep one more service busy meanwhile, as another one on the same machine would be."""
    with Server("neighbour", FIRST_PORT + 50, folder / "neighbour") as server:
        command = ["wrk", "-t1", "-c16", "-d3600s", f"{server.url}/health/live"]
        wrk = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            yield
        finally:
            wrk.terminate()
            wrk.wait()


def _rows(connections: int, measured: Rounds) -> list[list[object]]:
    service = next(iter(measured.values()))
    rows = []
    for name, runs in measured.items():
        batches = [run.commits.batch for run in runs if run.commits.batch]
        commits = [run.commits.milliseconds for run in runs if run.commits.milliseconds]
        ratios = [ours.per_second / run.per_second for ours, run in zip(service, runs, strict=True)]
        rows.append(
            [
                f"{connections} connections, {name}",
                f"{middle([run.per_second for run in runs]):.0f}",
                f"{middle([run.p50_ms for run in runs]):.1f}",
                f"{middle([run.p99_ms for run in runs]):.1f}",
                f"{middle([run.cpu_us for run in runs]):.0f}",
                f"{middle([run.switches_each for run in runs]):.1f}",
                f"{middle(batches):.1f}" if batches else "",
                f"{middle(commits):.1f}" if commits else "",
                f"{middle(ratios):.2f}",
                sum(run.refused + run.broken for run in runs),
            ]
        )
    return rows


@click.command()
@click.option("--connections", default="1,16,32,64", show_default=True)
@click.option("--rounds", default=3, show_default=True)
@click.option("--seconds", default=1.5, show_default=True, help="Length of one run.")
@click.option(
    "--fsync-ms",
    default="0,5",
    show_default=True,
    help="How much slower than here each fsync is: a run for each of these.",
)
@click.option(
    "--compare",
    default="designs",
    show_default=True,
    help="designs: without the database, and beside applications without anything of it, see"
    " plain.py; fsync: the service with each of --fsync-ms;"
    " index: without the search index; 2x32,3x16,...: WEB_CONCURRENCY x WEB_THREADS;"
    " LOG_LEVEL=ERROR: other settings; a folder: another version of the service.",
)
@click.option("--neighbour", is_flag=True, help="Keep another service on this machine busy.")
def main(
    connections: str, rounds: int, seconds: float, fsync_ms: str, compare: str, neighbour: bool
) -> None:
    """Measure durable deliveries per second, and compare with other ways to do it."""
    require("wrk", "to send requests")
    each = [float(milliseconds) for milliseconds in fsync_ms.split(",")]
    for delays in [each] if compare == "fsync" else [[milliseconds] for milliseconds in each]:
        with tempfile.TemporaryDirectory(prefix="webhook-bench-") as name, ExitStack() as stack:
            folder = Path(name)
            bodies = Bodies(folder)
            servers = [
                stack.enter_context(server) for server in _contenders(compare, folder, delays)
            ]
            if neighbour:
                stack.enter_context(_neighbour(folder))
            _race(servers, bodies, 4, 1, _WARM_UP_S)
            click.echo(f"each fsync slower by {', '.join(f'{ms:g}' for ms in delays)} ms:")
            rows = []
            for number in map(int, connections.split(",")):
                rows += _rows(number, _race(servers, bodies, number, rounds, seconds))
            show_table(_HEAD, rows)
            _check_stored(servers)
            if compare == "designs" and not delays[0]:
                _show_live(servers, rounds, seconds)


def _show_live(servers: Sequence[Server], rounds: int, seconds: float) -> None:
    click.echo("GET /health/live, which does nothing:")
    some = [one for one in servers if one.app == "wsgi:app" or ":bare" in one.app]
    rows = []
    for number in _LIVE_CONNECTIONS:
        rows += _rows(number, _race_live(some, number, rounds, seconds))
    show_table(_HEAD, rows)


def _check_stored(servers: Sequence[Server]) -> None:
    """Fail if a server acknowledged more messages than it has: then some were sent twice."""
    for server in servers:
        stores = ":ceiling" not in server.app and ":bare" not in server.app
        if stores and server.stored() < server.answered:
            raise click.ClickException(
                f"{server.name}: {server.answered} answered, {server.stored()} stored"
            )


if __name__ == "__main__":
    main()
