"""Load, kill -9 of a process, new start: is any acknowledged message lost?

`python -m tests.kill_rounds 100` prints a table of so many rounds. Kills that are held at a point
of a commit or of a checkpoint are in `tests.powercut`.
"""

import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from tests.builders import SECRET, a_message, encode
from tests.serving import ROOT, Load, Server, serving, wait_until

_IMPORTED = 60_000


class Round(NamedTuple):
    """What one round found, in the file as the next start would find it."""

    killed: str
    acknowledged: int
    lost: int
    stored: int
    integrity: str


def _all(server: Server, _chance: random.Random) -> None:
    server.kill()


def _master(server: Server, _chance: random.Random) -> None:
    orphans = server.workers
    server.process.kill()
    server.process.wait(10)
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in orphans), 15)


def _workers(server: Server, chance: random.Random) -> None:
    for _ in range(3):
        os.kill(chance.choice(server.workers), signal.SIGKILL)
        wait_until(lambda: len(server.workers) == 2)
        time.sleep(chance.uniform(0, 0.4))
    server.kill()


def _import(server: Server, chance: random.Random) -> None:
    """Kill an import in the middle, under load, and then everything."""
    lines = server.folder / "import.ndjson"
    name = f"import-{time.monotonic_ns()}"
    with lines.open("wb") as file:
        for number in range(_IMPORTED):
            file.write(encode(a_message(message_id=f"{name}-{number}")) + b"\n")
    running = subprocess.Popen(
        [sys.executable, "-m", "flask", "--app", "wsgi", "import", lines],
        cwd=ROOT,
        env={
            "PATH": os.environ["PATH"],
            "WEBHOOK_SECRET": SECRET,
            "DATABASE_URL": f"sqlite:///{server.database}",
        },
    )
    time.sleep(chance.uniform(0.8, 2.0))
    running.kill()
    running.wait(10)
    server.kill()


KILLS: list[Callable[[Server, random.Random], None]] = [_all, _master, _workers, _import]


def kill_rounds(folder: Path, *, rounds: int, load_s: float) -> Iterator[Round]:
    """Load the service for `load_s` seconds and kill, again and again on the same file."""
    chance = random.Random(1)
    acknowledged: set[str] = set()
    for number in range(rounds):
        kill = KILLS[number % len(KILLS)]
        with serving(folder, WEB_CONCURRENCY=2) as server, Load(server, f"r{number}") as load:
            wait_until(lambda server=server: len(server.workers) == 2)  # type: ignore[misc]
            wait_until(lambda load=load: load.acknowledged)  # type: ignore[misc]
            time.sleep(chance.uniform(0.5, 1.0) * load_s)
            kill(server, chance)
        acknowledged |= load.acknowledged
        stored = server.ids()
        with closing(sqlite3.connect(server.database)) as connection:
            integrity = connection.execute("PRAGMA integrity_check").fetchone()[0]
        lost = len(acknowledged - stored)
        yield Round(kill.__name__[1:], len(load.acknowledged), lost, len(stored), integrity)


def main(rounds: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        print("round  killed   acknowledged  lost of all so far  stored  integrity_check")  # noqa: T201
        for number, found in enumerate(kill_rounds(Path(folder), rounds=rounds, load_s=1.5), 1):
            print(  # noqa: T201
                f"{number:5}  {found.killed:7}  {found.acknowledged:12}  {found.lost:18}"
                f"  {found.stored:6}  {found.integrity}",
                flush=True,
            )


if __name__ == "__main__":
    main(int(sys.argv[1]))
