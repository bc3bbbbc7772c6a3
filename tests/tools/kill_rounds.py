"""Load, kill -9 of a process, new start: is any acknowledged message lost?

`python -m tests.tools.kill_rounds 100` prints a table of so many rounds; with `100 machine=replica`
or `machine=disk`, Litestream is killed as well, the volume deleted, and the replica restored. Kills
at a certain point of a commit or of a checkpoint are in `tests.tools.powercut`, those of the
commands in `tests/cli`.
"""

import os
import random
import shutil
import signal
import sqlite3
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from http.client import HTTPException
from pathlib import Path
from typing import NamedTuple, Self

from tests.builders import a_message, encode
from tests.cli.running import command
from tests.litestream import configured, replicating, restore, with_replica
from tests.serving import Load, Server, database_in, serving, wait_until
from tests.store.files import differences
from webhook_api.models import FeedPosition
from webhook_api.store.connections import connect
from webhook_api.store.database import Database
from webhook_api.store.messages import was_removed
from webhook_api.store.positions import is_proved

_IMPORTED = 60_000
_IDS_AT_ONCE = 10_000


class Round(NamedTuple):
    """What one round found, in the file as the next start would find it."""

    killed: str
    acknowledged: int
    lost: int
    stored: int
    differences: list[str]


def _all(server: Server, _chance: random.Random) -> None:
    server.kill()


def _master(server: Server, _chance: random.Random) -> None:
    orphans = server.workers
    server.process.kill()
    server.process.wait(10)
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in orphans), 15)


def _workers(server: Server, chance: random.Random) -> None:
    for _ in range(3):
        killed = chance.choice(server.workers)
        os.kill(killed, signal.SIGKILL)
        server.wait_for_workers(2, but=[killed])
        time.sleep(chance.uniform(0, 0.4))
    server.kill()


def _import(server: Server, chance: random.Random) -> None:
    """Kill an import in the middle, under load, and then everything."""
    lines = server.folder / "import.ndjson"
    name = f"import-{time.monotonic_ns()}"
    with lines.open("wb") as file:
        for number in range(_IMPORTED):
            file.write(encode(a_message(message_id=f"{name}-{number}")) + b"\n")
    running = command(server.database, "import", lines)
    time.sleep(chance.uniform(0.8, 2.0))
    running.kill()
    running.wait(10)
    server.kill()


KILLS: list[Callable[[Server, random.Random], None]] = [_all, _master, _workers, _import]


def kill_rounds(
    folder: Path,
    *,
    rounds: int,
    load_s: float,
) -> Iterator[Round]:
    """Load the service for `load_s` seconds and kill, again and again on the same file."""
    chance = random.Random(1)
    acknowledged: set[str] = set()
    for number in range(rounds):
        kill = KILLS[number % len(KILLS)]
        with serving(folder, WEB_CONCURRENCY=2) as server, Load(server, f"r{number}") as load:
            server.wait_for_workers(2)
            wait_until(lambda load=load: load.acknowledged)  # type: ignore[misc]
            time.sleep(chance.uniform(0.5, 1.0) * load_s)
            kill(server, chance)
        acknowledged |= load.acknowledged
        differences = _check(server.database)
        lost = len(_lost(acknowledged, server.database))
        yield Round(kill.__name__[1:], len(load.acknowledged), lost, len(server.ids()), differences)


def machine_rounds(
    folder: Path, *, rounds: int, load_s: float, ack_after: str, threads: int = 64
) -> Iterator[Round]:
    """Lose the machine under load, restore the replica, and go on with it, again and again.

    Programs read the feed meanwhile; each position that they got must be right afterwards.
    """
    chance = random.Random(1)
    acknowledged: set[str] = set()
    file = configured(folder)
    database = database_in(folder)
    settings = with_replica(folder, ACK_AFTER=ack_after, WEB_CONCURRENCY=2)
    for number in range(rounds):
        before = _uploads(folder)
        with (
            serving(folder, (), **settings) as server,
            replicating(file) as litestream,
            Load(server, f"r{number}", threads) as load,
            _Reader(server) as reader,
        ):
            wait_until(lambda load=load: len(load.acknowledged) > threads, 60)  # type: ignore[misc]
            wait_until(lambda before=before: _uploads(folder) - before, 60)  # type: ignore[misc]
            time.sleep(chance.uniform(0.2, 1.0) * load_s)
            kills = [server.kill, litestream.kill]
            for kill in chance.sample(kills, 2):
                kill()
                time.sleep(chance.choice([0, 0, 0.05]))
        acknowledged |= load.acknowledged
        shutil.rmtree(database.parent)
        run = restore(file, database)
        assert run.returncode == 0, run.stderr
        differences = _check(database)
        with closing(connect(database, "ro", timeout_s=5)) as db:
            differences += reader.wrong
            last = reader.positions[-1:]
            differences += [f"position {one} is lost" for one in last if not is_proved(db, one)]
            (stored,) = db.execute("SELECT count(*) FROM messages").fetchone()
        lost = len(_lost(acknowledged, database))
        yield Round(f"machine={ack_after}", len(load.acknowledged), lost, stored, differences)
        acknowledged -= _lost(acknowledged, database)  # each is counted once


def _uploads(folder: Path) -> set[str]:
    return {file.name for file in folder.glob("replica/ltx/0/*")}


class _Reader:
    """Follows the feed during a `with` block, and remembers the positions that it got."""

    def __init__(self, server: Server) -> None:
        self.positions: list[FeedPosition] = []
        self.wrong: list[str] = []  # answers that should not be
        self._server = server
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._read)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._ended.set()
        self._thread.join()

    def _read(self) -> None:
        after: object = "now"
        while not self._ended.is_set():
            with suppress(OSError, HTTPException):
                answer = self._server.get(f"/messages?after={after}&limit=100&wait=1")
                try:
                    position = FeedPosition.parse(answer.json["position"])
                    assert isinstance(position, FeedPosition)
                    self.positions.append(position)
                    after = position
                except (AssertionError, ValueError, LookupError, TypeError):
                    if answer.status != 503:
                        self.wrong.append(repr(answer))
            time.sleep(0.02)


def _check(path: Path) -> list[str]:
    """Return what differs in the database after the next start."""
    with closing(Database(path)) as database:
        database.prepare()
    return differences(path)


def _lost(message_ids: set[str], path: Path) -> set[str]:
    """Return what is neither stored nor removed, in the database and what it replaced."""
    lost = sorted(message_ids)
    for file in [path, *path.parent.glob(f"{path.stem}-replaced-*.db")]:
        with closing(sqlite3.connect(file)) as db:
            stored = {row[0] for row in db.execute("SELECT message_id FROM messages")}
            lost = [one for one in lost if one not in stored]
            for at in range(0, len(lost), _IDS_AT_ONCE):
                stored |= was_removed(db, lost[at : at + _IDS_AT_ONCE])
        lost = [one for one in lost if one not in stored]
    return set(lost)


def main(rounds: int, machine: str = "") -> None:
    with tempfile.TemporaryDirectory() as name:
        if machine:
            ack_after = machine.removeprefix("machine=")
            found_by = machine_rounds(Path(name), rounds=rounds, load_s=1.5, ack_after=ack_after)
        else:
            found_by = kill_rounds(Path(name), rounds=rounds, load_s=1.5)
        print("round  killed         acknowledged  lost of all so far  stored  verify")  # noqa: T201
        for number, found in enumerate(found_by, 1):
            print(  # noqa: T201
                f"{number:5}  {found.killed:13}  {found.acknowledged:12}  {found.lost:18}"
                f"  {found.stored:6}  {found.differences or 'nothing differs'}",
                flush=True,
            )


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
