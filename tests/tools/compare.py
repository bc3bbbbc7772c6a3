"""Which of two checkouts is faster: `python -m tests.tools.compare OLD NEW`.

Both run side by side on databases with the same rows, and a bare Flask application on Gunicorn's
threads beside them. They are measured in turn, in several rounds of one run: on a machine with
other work to do, nothing else says anything. OLD and NEW are folders.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlencode

import click

from tests.builders import SECRET, encode, signed
from tests.tools.benchmarks.data import messages
from tests.tools.benchmarks.harness import HERE, Server, require, show_table
from tests.tools.benchmarks.measured import middle

_MOST_PER_SECOND = 9000  # deliveries that any of the servers can take
_SEARCHERS = 160
_DELIVERING_BESIDE = 32
_SEARCHES = 20_000
_SETTLE_S = 1.0


class Run(NamedTuple):
    """What wrk says about one run."""

    per_second: float  # answers of 2xx and 3xx
    p50_ms: float
    p99_ms: float
    refused: int
    broken: int


Measure = Callable[[Server], dict[str, Run]]  # by what was measured


class Files:
    """Signed deliveries that were never sent, and searches that were never asked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._seeds = count(1000)
        words = {word for message in messages(2000) for word in message["text"].split()}
        self._words = sorted(word for word in words if len(word) > 2)

    def deliveries(self, seconds: int) -> Path:
        path = self.folder / "deliveries"
        with path.open("wb") as file:
            for message in messages(seconds * _MOST_PER_SECOND, seed=next(self._seeds)):
                body = encode(message)
                file.write(b"%s %s\n" % (signed(body)["X-Signature"].encode(), body))
        return path

    def searches(self) -> Path:
        """Return a file of paths: two words of which each may be common or rare."""
        chance = random.Random(next(self._seeds))
        path = self.folder / "searches"
        with path.open("w") as file:
            for _ in range(_SEARCHES):
                phrase = " ".join(chance.choices(self._words, k=chance.choice([1, 1, 2])))
                query = {"q": phrase, "limit": chance.randint(1, 100)}
                file.write(f"/messages?{urlencode(query)}\n")
        return path


def start(
    server: Server,
    script: Path,
    connections: int,
    arguments: Sequence[object],
    path: str = "",
    seconds: int = 600,
) -> "subprocess.Popen[str]":
    """Start wrk, which ends by itself after some seconds of load."""
    threads = min(2, connections)
    command = ["wrk", f"-t{threads}", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s"]
    command += ["-s", str(script), server.url + path, "--", *map(str, arguments)]
    environment = {**os.environ, "REPORT_LUA": str(HERE / "report.lua")}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def end(wrk: "subprocess.Popen[str]", *, early: bool = False) -> Run:
    """Return the report of wrk when it has ended; `early` stops it now."""
    if early:
        wrk.send_signal(signal.SIGINT)
    output, _ = wrk.communicate()
    report = json.loads(output.strip().splitlines()[-1])
    served = report["requests"] - report["refused"]
    return Run(
        served / report["seconds"],
        report["p50_ms"],
        report["p99_ms"],
        report["refused"],
        report["broken"],
    )


def deliveries(file: Path, connections: int, seconds: int) -> Measure:
    def measure(server: Server) -> dict[str, Run]:
        threads = min(2, connections)
        wrk = start(server, HERE / "post.lua", connections, [file, threads], seconds=seconds)
        return {f"deliveries, {connections}": end(wrk)}

    return measure


def reads(path: str, connections: int, seconds: int) -> Measure:
    def measure(server: Server) -> dict[str, Run]:
        wrk = start(server, HERE / "report.lua", connections, [], path, seconds)
        return {f"{path}, {connections}": end(wrk)}

    return measure


def deliveries_beside_searches(files: Files, seconds: int) -> Measure:
    delivered, asked = files.deliveries(seconds), files.searches()

    def measure(server: Server) -> dict[str, Run]:
        searching = start(server, Path(__file__).with_name("paths.lua"), _SEARCHERS, [asked])
        time.sleep(_SETTLE_S)
        file = [delivered, 2]
        wrk = start(server, HERE / "post.lua", _DELIVERING_BESIDE, file, seconds=seconds)
        found = {f"deliveries, {_DELIVERING_BESIDE}, beside searches": end(wrk)}
        return found | {f"searches, {_SEARCHERS}, beside deliveries": end(searching, early=True)}

    return measure


def make_database(root: Path, path: Path, rows: int) -> None:
    """Import messages with the commands of the checkout."""
    environment = {**os.environ, "WEBHOOK_SECRET": SECRET, "DATABASE_URL": f"sqlite:///{path}"}
    flask = [sys.executable, "-m", "flask", "--app", "wsgi"]
    subprocess.run([*flask, "init-db"], cwd=root, env=environment, check=True, stdout=sys.stderr)
    process = subprocess.Popen(
        [*flask, "import", "-"],
        cwd=root,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    )
    assert process.stdin
    with process.stdin:
        for message in messages(rows):
            process.stdin.write(encode(message) + b"\n")
    if process.wait() != 0:
        raise click.ClickException(f"{root}: import failed")


def _ratio(value: float, other: float) -> float:
    return value / other if other else float("nan")  # nothing was answered


def show(measured: dict[str, dict[str, list[Run]]], names: Sequence[str]) -> None:
    """Print medians, and the ratios of each round to the first server in the same round.

    The last of `names` is the bare application.
    """
    table = []
    for what, by_server in measured.items():
        first, bare = by_server[names[0]], by_server.get(names[-1])
        for name in names:
            if (runs := by_server.get(name)) is None:
                continue
            to_bare = [
                _ratio(run.per_second, one.per_second)
                for run, one in zip(runs, bare or [], strict=bare is not None)
            ]
            pairs = list(zip(runs, first, strict=True))
            ratios = [_ratio(run.per_second, one.per_second) for run, one in pairs]
            p99s = [_ratio(run.p99_ms, one.p99_ms) for run, one in pairs]
            table.append(
                [
                    f"{what}: {name}",
                    f"{middle([run.per_second for run in runs]):.0f}",
                    f"{middle(ratios):.2f}",
                    f"{min(ratios):.2f} to {max(ratios):.2f}",
                    f"{middle(to_bare):.2f}" if to_bare else "",
                    f"{middle([run.p50_ms for run in runs]):.1f}",
                    f"{middle([run.p99_ms for run in runs]):.1f}",
                    f"{middle(p99s):.2f}",
                    sum(run.refused for run in runs),
                    sum(run.broken for run in runs),
                ]
            )
    head = (
        "",
        "a second",
        "ratio",
        "of rounds",
        "to bare",
        "p50 ms",
        "p99 ms",
        "ratio",
        "refused",
        "broken",
    )
    show_table(head, table)


@click.command()
@click.argument("roots", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--rows", default=100_000, show_default=True, help="In each database.")
@click.option("--rounds", default=5, show_default=True)
@click.option("--seconds", default=3, show_default=True, help="Length of one run.")
@click.option("--connections", default="1,32,64,256", show_default=True, help="That deliver.")
@click.option("--only", default="", help="Only what has this in its name, such as searches.")
@click.option("--port", default=8320, show_default=True, help="The first port.")
@click.option("--keep", type=click.Path(path_type=Path), help="Where the databases are kept.")
def main(
    roots: tuple[Path, ...],
    rows: int,
    rounds: int,
    seconds: int,
    connections: str,
    only: str,
    port: int,
    keep: Path | None,
) -> None:
    """Measure checkouts side by side; the first is what the others are compared with."""
    require("wrk", "to send requests")
    with tempfile.TemporaryDirectory(prefix="webhook-compare-") as name, ExitStack() as stack:
        folder = Path(name)
        files = Files(folder)
        servers = []
        for number, root in enumerate(roots):
            label = f"{number + 1} {root.resolve().name}"
            server = Server(label, port + number, folder / str(number), root=root.resolve())
            kept = keep / f"{number}-{rows}.db" if keep else server.database
            if not kept.exists():
                kept.parent.mkdir(parents=True, exist_ok=True)
                make_database(root.resolve(), kept.resolve(), rows)
            if kept != server.database:
                shutil.copyfile(kept, server.database)
            servers.append(stack.enter_context(server))
        bare = Server("bare Flask, gthread 2x16", port + len(roots), folder / "bare")
        bare.app = "tests.tools.benchmarks.plain:bare()"
        bare.arguments = ["-c", "python:tests.tools.benchmarks", "-b", f"127.0.0.1:{bare.port}"]
        bare.arguments += ["-k", "gthread", "-w", "2", "--threads", "16"]
        stack.enter_context(bare)

        measured: dict[str, dict[str, list[Run]]] = defaultdict(lambda: defaultdict(list))

        def race(name: str, contenders: Sequence[Server], make: Callable[[], Measure]) -> None:
            if only not in name:
                return
            for turn in range(rounds):
                measure = make()
                first = turn % len(contenders)
                for server in (*contenders[first:], *contenders[:first]):
                    for what, run in measure(server).items():
                        measured[what][server.name].append(run)
                        click.echo(f"{what}: {server.name}: {run}", err=True)

        for number in map(int, connections.split(",")):
            race(
                "deliveries",
                [*servers, bare],
                lambda number=number: deliveries(files.deliveries(seconds), number, seconds),  # type: ignore[misc]
            )
        race("live", [*servers, bare], lambda: reads("/health/live", 32, seconds))
        for number in (1, 32, 256):
            race("page", servers, lambda number=number: reads("/messages", number, seconds))  # type: ignore[misc]
        race("searches", servers, lambda: deliveries_beside_searches(files, seconds))
        click.echo(f"{rows} rows, {rounds} rounds of {seconds} s")
        show(measured, [server.name for server in (*servers, bare)])


if __name__ == "__main__":
    main()
