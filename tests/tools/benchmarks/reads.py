"""What each read costs on a large table: `python -m tests.tools.benchmarks.reads --help`.

Every read is measured beside GET /health/live on the same server, in turn: the ratio says what
the read itself costs, whatever else the machine does.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlencode

import click

from tests.builders import SECRET, an_app
from tests.serving import ROOT
from tests.tools.benchmarks.data import COMMON_WORD, RARE_WORD, TEXT_CHARS, messages
from tests.tools.benchmarks.harness import FIRST_PORT, Server, middle, require, show_table
from webhook_api.config import Config
from webhook_api.reading.feed import MAX_LOOKED_AT
from webhook_api.services import services_of

_LIVE = "/health/live"
_RUN_S = 0.5
_RUN_REQUESTS = 3  # of a slow read, in one run
_STREAMED = 10_000
_SHOWN_CHARS = 160  # of a statement
_NDJSON = "application/x-ndjson"
_NOBODY = "+10"  # is no sender


class Read(NamedTuple):
    """A read to measure."""

    name: str
    path: str
    accept: str = "*/*"


def import_messages(path: Path, rows: int, root: Path = ROOT) -> None:
    """Import messages into the database at `path`, and print the time that it took.

    The commands are those of the checkout `root`.
    """
    flask = [sys.executable, "-m", "flask", "--app", "wsgi"]
    environment = {**os.environ, "WEBHOOK_SECRET": SECRET, "DATABASE_URL": f"sqlite:///{path}"}
    subprocess.run([*flask, "init-db"], cwd=root, env=environment, check=True, stdout=sys.stderr)
    started = time.perf_counter()
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
            process.stdin.write(json.dumps(message).encode() + b"\n")
    if process.wait() != 0:
        raise click.ClickException("import failed")
    seconds = time.perf_counter() - started
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = used.ru_utime + used.ru_stime
    click.echo(f"{rows} messages of {TEXT_CHARS} characters:")
    click.echo(f"imported {rows / seconds:.0f} a second, {rows / cpu_s:.0f} a second of CPU time,")
    click.echo(f"{path.stat().st_size / rows:.0f} bytes each\n")


def _reads(server: Server, rows: int) -> Iterator[Read]:
    def messages_where(**parameters: object) -> str:
        return "/messages?" + urlencode(parameters)

    def ts_at(offset: int) -> str:
        reply = server.service.get(messages_where(offset=offset, limit=1))
        return str(reply.json["data"][0]["ts"])

    def position_at(offset: int) -> str:
        """Return a position in the feed, which a filter that matches nothing reaches fastest."""
        position = "start"
        for _ in range(offset // MAX_LOOKED_AT):
            path = messages_where(after=position, **{"from": _NOBODY})
            position = str(server.service.get(path).json["position"])
        return position

    sender = server.service.get("/stats").json["messages_per_sender"][-1]["from"]
    half = ts_at(rows // 2)
    link = server.service.get(messages_where(offset=rows // 2)).headers["link"]
    yield Read("first page", "/messages")
    yield Read("from", messages_where(**{"from": sender}))
    yield Read("since, half of all", messages_where(since=half))
    yield Read("from and since", messages_where(**{"from": sender, "since": half}))
    yield Read("q, some 20 hits", messages_where(q=RARE_WORD))
    yield Read("q, 30 % hit", messages_where(q=COMMON_WORD))
    yield Read("q, 30 % hit, from", messages_where(**{"from": sender, "q": COMMON_WORD}))
    yield Read("q of two characters", messages_where(q=COMMON_WORD[:2]))
    yield Read("q of one character", messages_where(q=COMMON_WORD[0]))
    yield Read(f"offset={rows * 9 // 10}", messages_where(offset=rows * 9 // 10))
    yield Read("last page", messages_where(offset=rows - 50))
    yield Read("next page by cursor", link[1 : link.index(">")])
    yield Read("feed, from the start", messages_where(after="start"))
    halfway = position_at(rows // 2)
    yield Read("feed, from the middle", messages_where(after=halfway))
    nobody = messages_where(after=halfway, **{"from": _NOBODY})
    yield Read(f"feed, none of {MAX_LOOKED_AT} matches", nobody)
    yield Read("/stats", "/stats")
    yield Read("/stats, since half", "/stats?" + urlencode({"since": half}))
    yield Read("/stats, from", "/stats?" + urlencode({"from": sender}))
    yield Read("/inbox", "/inbox")
    yield Read("/inbox, from", "/inbox?" + urlencode({"from": sender}))
    streamed = messages_where(since=ts_at(max(0, rows - _STREAMED)))
    yield Read(f"NDJSON, {_STREAMED} messages", streamed, _NDJSON)


def _forget(path: Path) -> None:
    """Make the kernel drop what it holds of a file in memory."""
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _once_s(server: Server, read: Read) -> float:
    started = time.perf_counter()
    with server.service.client(timeout_s=600) as client:
        client.request("GET", read.path, headers={"Accept": read.accept})
    return time.perf_counter() - started


def _measure(server: Server, read: Read, connections: int, rounds: int) -> list[str]:
    _forget(server.database)
    first_ms = _once_s(server, read) * 1000
    seconds = max(_RUN_S, _RUN_REQUESTS * connections * _once_s(server, read))
    costs, ratios, failed = [], [], 0
    for _ in range(rounds):
        live = server.get(_LIVE, connections, _RUN_S)
        run = server.get(read.path, connections, seconds, read.accept)
        costs.append(run.p50_ms)
        ratios.append(run.p50_ms / live.p50_ms)
        failed += run.refused + run.broken
    figures = [f"{first_ms:.1f}", f"{middle(costs):.2f}", f"{middle(ratios):.1f}"]
    return [*figures, str(failed)]


def _show_plans(path: Path, reads: list[Read]) -> None:
    """Print how SQLite runs each statement of each read."""
    app = an_app(Config(webhook_secret=SECRET, database_path=path, log_level="ERROR"))
    database = services_of(app).database
    statements: list[str] = []
    reader = database.acquire_reader()
    reader.set_trace_callback(statements.append)
    database.release_reader(reader)
    for read in reads:
        statements.clear()
        app.test_client().get(read.path, headers={"Accept": read.accept}).get_data()
        click.echo(f"{read.name}: {read.path}")
        shown = set()
        for sql in [sql for sql in statements if sql.startswith("SELECT")]:
            steps = [step for *_, step in reader.execute(f"EXPLAIN QUERY PLAN {sql}").fetchall()]
            if tuple(steps) not in shown:
                click.echo(f"  {sql[:_SHOWN_CHARS]}")
                click.echo("".join(f"    {step}\n" for step in steps), nl=False)
            shown.add(tuple(steps))
    services_of(app).commits.close()
    database.close()


@click.command()
@click.option("--rows", default=1_000_000, show_default=True)
@click.option("--rounds", default=3, show_default=True)
@click.option("--connections", default=1, show_default=True)
@click.option("--database", type=click.Path(path_type=Path), help="Made if there is none, kept.")
@click.option("--plans", is_flag=True, help="Also show SQLite's query plans.")
def main(rows: int, rounds: int, connections: int, database: Path | None, plans: bool) -> None:
    """Import messages, then measure each way to read them beside GET /health/live."""
    require("wrk", "to send requests")
    with tempfile.TemporaryDirectory(prefix="webhook-bench-") as name:
        # Counts of searches are remembered by each process: one makes the rounds comparable.
        one = {"WEB_CONCURRENCY": "1"}
        server = Server("service", FIRST_PORT, Path(name), environment=one)
        if database:
            server.database = database.absolute()
        if not server.database.exists():
            import_messages(server.database, rows)
        with server:
            reads = list(_reads(server, rows))
            table = [[read.name, *_measure(server, read, connections, rounds)] for read in reads]
        show_table(["", "first, ms", "then, ms", "ratio to /health/live", "failed"], table)
        if plans:
            _show_plans(server.database, reads)


if __name__ == "__main__":
    main()
