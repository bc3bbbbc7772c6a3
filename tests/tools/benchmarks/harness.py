"""Servers to measure, wrk as the load generator, and tables of the results."""

import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from statistics import median
from types import TracebackType
from typing import Any, NamedTuple, Self

import click

from tests.builders import SECRET
from tests.serving import ROOT, Service

HERE = Path(__file__).parent
FIRST_PORT = 8180
_START_S = 10.0


class Commits(NamedTuple):
    """What /metrics says about the commits; nothing for a server without metrics."""

    messages: float = 0
    batches: float = 0
    seconds: float = 0
    transactions: float = 0

    @classmethod
    def parse(cls, metrics: str) -> Self:
        """Take them from the text of /metrics."""
        values = dict(re.findall(r"^commit_(\w+) (\S+)$", metrics, re.MULTILINE))
        messages, batches, seconds, transactions = (
            float(values.get(name, 0))
            for name in (
                "batch_messages_sum",
                "batch_messages_count",
                "duration_seconds_sum",
                "duration_seconds_count",
            )
        )
        return cls(messages, batches, seconds, transactions)

    def since(self, before: Self) -> Self:
        return type(self)(*(now - then for now, then in zip(self, before, strict=True)))

    @property
    def batch(self) -> float | None:
        """Return how many messages shared a commit."""
        return self.messages / self.batches if self.batches else None

    @property
    def milliseconds(self) -> float | None:
        """Return how long a transaction took, its fsync included."""
        return self.seconds / self.transactions * 1000 if self.transactions else None


class Measured(NamedTuple):
    """One run of wrk."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    refused: int  # answers that were not 2xx or 3xx
    broken: int  # connections that failed, and requests without an answer for 2 s
    cpu_s: float  # of all the server's processes
    switches: int  # from one thread to another, in them
    commits: Commits

    @property
    def per_second(self) -> float:
        return (self.requests - self.refused) / self.seconds

    @property
    def cpu_us(self) -> float:
        return self.cpu_s / self.requests * 1e6

    @property
    def switches_each(self) -> float:
        return self.switches / self.requests


def middle(values: Sequence[float]) -> float:
    """Return the median, which one bad round does not move."""
    return float(median(values))


@dataclass
class Server:
    """Gunicorn with the repository's own settings, except those that are given here."""

    name: str
    port: int
    folder: Path
    app: str = "wsgi:app"
    arguments: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    root: Path = ROOT

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.database = self.folder / "app.db"
        self.url = f"http://127.0.0.1:{self.port}"
        self.service = Service(self.port)
        self.answered = 0

    def __enter__(self) -> Self:
        environment = {
            "PATH": os.environ["PATH"],
            "WEBHOOK_SECRET": SECRET,
            "DATABASE_URL": f"sqlite:///{self.database}",
            "PORT": str(self.port),
            **self.environment,
        }
        with (self.folder / "log").open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "gunicorn", self.app, *self.arguments],
                cwd=self.root,
                env=environment,
                stdout=log,
                stderr=log,
            )
        give_up = time.monotonic() + _START_S
        while not self._lives():
            if self._process.poll() is not None or time.monotonic() > give_up:
                self._stop()
                raise click.ClickException(f"{self.name} did not start: see {log.name}")
            time.sleep(0.05)
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop()

    def _lives(self) -> bool:
        try:
            return self.service.get("/health/live", timeout_s=1).status == 200
        except (OSError, HTTPException):
            return False

    def _stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(timeout=30)

    def post(self, bodies: Path, connections: int, seconds: float) -> Measured:
        """Deliver the lines of `bodies`, see post.lua, for so many seconds."""
        threads = min(2, connections)
        measured = self._wrk("post.lua", connections, seconds, threads, [bodies, threads])
        self.answered += measured.requests - measured.refused
        return measured

    def get(self, path: str, connections: int, seconds: float, accept: str = "*/*") -> Measured:
        """Request `path` again and again, for some seconds."""
        return self._wrk("report.lua", connections, seconds, 1, [], path, f"Accept: {accept}")

    def ask(self, paths: Path, connections: int, seconds: float) -> Measured:
        """Request the lines of `paths`, see paths.lua, for some seconds."""
        return self._wrk("paths.lua", connections, seconds, 2, [paths])

    def _wrk(
        self,
        script: str,
        connections: int,
        seconds: float,
        threads: int,
        arguments: Sequence[object],
        path: str = "",
        header: str = "Accept: */*",
    ) -> Measured:
        # wrk knows whole seconds only; an interrupt makes it stop and report as well.
        command = ["wrk", f"-t{threads}", f"-c{connections}", "-d60s", "-H", header]
        command += ["-s", str(HERE / script), self.url + path, "--", *map(str, arguments)]
        commits, cpu_s, switches = self._commits(), self._cpu_s(), self._switches()
        wrk = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            output, _ = wrk.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            wrk.send_signal(signal.SIGINT)
            output, _ = wrk.communicate()
        report: dict[str, Any] = json.loads(output.strip().splitlines()[-1])
        cpu_s, switches = self._cpu_s() - cpu_s, self._switches() - switches
        commits = self._commits().since(commits)
        return Measured(**report, cpu_s=cpu_s, switches=switches, commits=commits)

    def _commits(self) -> Commits:
        reply = self.service.get("/metrics")
        return Commits.parse(reply.body.decode()) if reply.status == 200 else Commits()

    def _workers(self) -> list[str]:
        pid = self._process.pid
        return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()

    def _switches(self) -> int:
        """Return the context switches of the workers' threads so far, from /proc (proc(5))."""
        switches = 0
        for pid in self._workers():
            for task in Path(f"/proc/{pid}/task").iterdir():
                with suppress(FileNotFoundError, ProcessLookupError):  # the thread has ended
                    lines = (task / "status").read_text().splitlines()
                    switches += sum(int(line.split()[1]) for line in lines if "_switches" in line)
        return switches

    def _cpu_s(self) -> float:
        """Return the CPU time that the workers have used, from /proc (proc(5))."""
        ticks = 0
        for worker in self._workers():
            fields = Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def written_bytes(self) -> int:
        """Return how much the workers have given to the disk, from /proc (proc(5))."""
        return sum(
            int(line.removeprefix("write_bytes: "))
            for pid in self._workers()
            for line in Path(f"/proc/{pid}/io").read_text().splitlines()
            if line.startswith("write_bytes: ")
        )

    def stored(self) -> int:
        """Return how many messages the database file holds."""
        connection = sqlite3.connect(self.database)
        try:
            count: int = connection.execute("SELECT count(*) FROM messages").fetchone()[0]
            return count
        finally:
            connection.close()


def require(program: str, reason: str) -> str:
    """Return where `program` is.

    Raises:
        ClickException: it is not installed.
    """
    found = shutil.which(program)
    if found is None:
        raise click.ClickException(f"{program} is not installed: it is wanted {reason}")
    return found


def show_table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a Markdown table, its columns aligned."""
    cells = [list(head), *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    cells.insert(1, ["-" * (width - 1) + ":" for width in widths])
    cells[1][0] = "-" * widths[0]
    for row in cells:
        first, *others = zip(row, widths, strict=True)
        line = [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]
        click.echo("| " + " | ".join(line) + " |")
    click.echo()
