"""Which of two checkouts is faster: `python -m tests.tools.compare OLD NEW`.

Both run side by side on databases with the same rows, and a bare Flask application on Gunicorn's
threads beside them. They are measured in turn, in several rounds of one run: on a machine with
other work to do, nothing else says anything. OLD and NEW are folders.
"""

import os
import random
import shutil
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from urllib.parse import urlencode

import click

from tests.tools.benchmarks.data import messages
from tests.tools.benchmarks.harness import HERE, Measured, Server, middle, require, show_table
from tests.tools.benchmarks.reads import import_messages
from tests.tools.benchmarks.writes import GTHREAD, Bodies, in_turn

_SEARCHERS = 160
_WAITERS = 64
_DELIVERING_BESIDE = 32
_SEARCHES = 20_000
_SETTLE_S = 1.0
_HEAD = ("", "a second", "ratio", "of rounds", "to bare", "p50 ms", "p99 ms", "ratio", "failed")

Runs = dict[str, Measured]  # by what was measured


def _searches(folder: Path, seed: int) -> Path:
    """Return a file of paths: two words of which each may be common or rare."""
    found = {word for message in messages(2000) for word in message["text"].split()}
    words = sorted(word for word in found if len(word) > 2)
    chance = random.Random(seed)
    path = folder / "searches"
    with path.open("w") as file:
        for _ in range(_SEARCHES):
            phrase = " ".join(chance.choices(words, k=chance.choice([1, 1, 2])))
            file.write(f"/messages?{urlencode({'q': phrase, 'limit': chance.randint(1, 100)})}\n")
    return path


def _deliver(bodies: Path, connections: int, seconds: float, server: Server) -> Runs:
    return {f"deliveries, {connections}": server.post(bodies, connections, seconds)}


def _read(path: str, connections: int, seconds: float, server: Server) -> Runs:
    return {f"{path}, {connections}": server.get(path, connections, seconds)}


def _deliver_beside_searches(bodies: Path, searches: Path, seconds: float, server: Server) -> Runs:
    with ThreadPoolExecutor(1) as pool:
        searching = pool.submit(server.ask, searches, _SEARCHERS, seconds + 2 * _SETTLE_S)
        time.sleep(_SETTLE_S)
        delivered = server.post(bodies, _DELIVERING_BESIDE, seconds)
    return {
        f"deliveries, {_DELIVERING_BESIDE}, beside searches": delivered,
        f"searches, {_SEARCHERS}, beside deliveries": searching.result(),
    }


def _deliver_beside_waiters(bodies: Path, seconds: float, server: Server) -> Runs:
    """Deliver while clients wait for messages that never come."""
    path = f"/messages?after=now&wait={seconds + 2 * _SETTLE_S:g}&from=%2B10"
    with ThreadPoolExecutor(_WAITERS) as pool:
        waiting = [pool.submit(server.service.get, path, 30) for _ in range(_WAITERS)]
        time.sleep(_SETTLE_S)
        delivered = server.post(bodies, _DELIVERING_BESIDE, seconds)
        if any(one.done() for one in waiting):
            raise click.ClickException(f"{server.name}: a client did not wait")
    return {f"deliveries, {_DELIVERING_BESIDE}, beside {_WAITERS} that wait": delivered}


def _show(measured: dict[str, dict[str, list[Measured]]], names: Sequence[str]) -> None:
    """Print medians, and the ratios of each round to the first server in the same round.

    The last of `names` is the bare application.
    """

    def ratios(runs: list[Measured], others: list[Measured], of: str) -> list[float]:
        pairs = zip(runs, others, strict=True)
        return [getattr(run, of) / (getattr(one, of) or float("nan")) for run, one in pairs]

    table = []
    for what, by_server in measured.items():
        first, bare = by_server[names[0]], by_server.get(names[-1])
        for name in names:
            if (runs := by_server.get(name)) is None:
                continue
            to_first = ratios(runs, first, "per_second")
            to_bare = ratios(runs, bare, "per_second") if bare else []
            row = [
                f"{what}: {name}",
                f"{middle([run.per_second for run in runs]):.0f}",
                f"{middle(to_first):.2f}",
                f"{min(to_first):.2f} to {max(to_first):.2f}",
                f"{middle(to_bare):.2f}" if to_bare else "",
                f"{middle([run.p50_ms for run in runs]):.1f}",
                f"{middle([run.p99_ms for run in runs]):.1f}",
                f"{middle(ratios(runs, first, 'p99_ms')):.2f}",
                str(sum(run.refused + run.broken for run in runs)),
            ]
            table.append(row)
    show_table(_HEAD, table)


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
    roots: tuple[Path, ...], rows: int, rounds: int, seconds: int, connections: str, only: str,
    port: int, keep: Path | None,
) -> None:  # fmt: skip
    """Measure checkouts side by side; the first is what the others are compared with."""
    require("wrk", "to send requests")
    os.environ["REPORT_LUA"] = str(HERE / "report.lua")
    with tempfile.TemporaryDirectory(prefix="webhook-compare-") as name, ExitStack() as stack:
        folder = Path(name)
        bodies = Bodies(folder)
        servers = []
        for number, root in enumerate(map(Path.resolve, roots)):
            label = f"{number + 1} {root.name}"
            server = Server(label, port + number, folder / str(number), root=root)
            kept = keep / f"{number}-{rows}.db" if keep else server.database
            if not kept.exists():
                kept.parent.mkdir(parents=True, exist_ok=True)
                import_messages(kept.resolve(), rows, root)
            if kept != server.database:
                shutil.copyfile(kept, server.database)
            servers.append(stack.enter_context(server))
        bare = Server("bare Flask, gthread 2x16", port + len(roots), folder / "bare")
        bare.app = "tests.tools.benchmarks.plain:bare()"
        bare.arguments = ["-c", "python:tests.tools.benchmarks", "-b", f"127.0.0.1:{bare.port}"]
        bare.arguments += GTHREAD
        stack.enter_context(bare)
        measured: dict[str, dict[str, list[Measured]]] = defaultdict(lambda: defaultdict(list))

        def race(
            name: str, contenders: Sequence[Server], make: Callable[[], Callable[[Server], Runs]]
        ) -> None:
            for turn in range(rounds if only in name else 0):
                measure = make()
                for server in in_turn(contenders, turn):
                    for what, run in measure(server).items():
                        measured[what][server.name].append(run)
                        click.echo(f"{what}: {server.name}: {run.per_second:.0f}", err=True)

        all_of_them = [*servers, bare]
        for number in map(int, connections.split(",")):
            race("deliveries", all_of_them, lambda number=number: partial(  # type: ignore[misc]
                _deliver, bodies.fresh(seconds), number, seconds
            ))  # fmt: skip
        race("live", all_of_them, lambda: partial(_read, "/health/live", 32, seconds))
        for number in (1, 32, 256):
            race("page", servers, lambda number=number: partial(  # type: ignore[misc]
                _read, "/messages", number, seconds
            ))  # fmt: skip
        searches = _searches(folder, seed=1)
        race("searches", servers, lambda: partial(
            _deliver_beside_searches, bodies.fresh(seconds), searches, seconds
        ))  # fmt: skip
        race("deliveries beside waiters", servers, lambda: partial(
            _deliver_beside_waiters, bodies.fresh(seconds), seconds
        ))  # fmt: skip
        click.echo(f"{rows} rows, {rounds} rounds of {seconds} s")
        _show(measured, [server.name for server in all_of_them])


if __name__ == "__main__":
    main()
