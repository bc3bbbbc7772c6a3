"""Hours of usual load in minutes: does anything grow, become slower or get lost?

`python -m tests.tools.soak 20` prints a line a minute, and compares the last minute with the first.
"""

import http.client
import json
import os
import random
import socket
import struct
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlencode

from tests.builders import a_message, encode, signed
from tests.serving import Client, Reply, Server, serving

_WORKERS = 2
_MINUTE_S = 60.0
_MAY_GROW_BYTES = 60_000_000  # of both workers: what readers keep of a file that grows
_MAY_GROW_FILES = 40
_WORDS = ("otter", "river", "école", "привет", "invoice", "meeting", "你好", "refund", "late", "ok")
_NO_LINGER = struct.pack("ii", 1, 0)


@dataclass
class Seen:
    """What the clients saw since the last look, and which messages were acknowledged."""

    times_s: list[float] = field(default_factory=list)  # of deliveries
    statuses: Counter[int] = field(default_factory=Counter)
    unexpected: list[str] = field(default_factory=list)
    acknowledged: list[str] = field(default_factory=list)

    def take(self, what: str, reply: Reply) -> bool:
        """Count an answer; return whether it is a 200."""
        self.statuses[reply.status] += 1
        deliberate = reply.status == 503 and "retry-after" in reply.headers and reply.json
        if reply.status != 200 and not deliberate:
            self.unexpected.append(f"{what}: {reply.status} {reply.body[:80]!r}")
        return reply.status == 200


class Minute(NamedTuple):
    """What was seen in one of them, and how large the service is at its end."""

    requests: int
    refused: int  # deliberate 503
    p50_ms: float
    p99_ms: float
    memory: int
    files: int
    wal: int
    stored: int

    def __str__(self) -> str:
        return (
            f"{self.requests:8}  {self.refused:4}  {self.p50_ms:6.1f}  {self.p99_ms:6.1f}"
            f"  {self.memory / 1e6:6.1f}  {self.files:5}  {self.wal / 1e6:6.2f}  {self.stored:8}"
        )


HEADING = "minute  requests   503  p50 ms  p99 ms  RSS MB  files  WAL MB    stored"

Step = Callable[[Server, Client, Seen, random.Random], None]


def _deliver(_server: Server, client: Client, seen: Seen, chance: random.Random) -> None:
    text = " ".join(chance.choices(_WORDS, k=12))
    sender = f"+9198765{chance.randrange(2000):05}"
    message_id = f"soak-{chance.getrandbits(64):x}"
    started = time.perf_counter()
    reply = client.deliver(message_id=message_id, sender=sender, ts=_ago(0), text=text)
    seen.times_s.append(time.perf_counter() - started)
    if seen.take("delivery", reply):
        seen.acknowledged.append(message_id)


def _repeat(_server: Server, client: Client, seen: Seen, chance: random.Random) -> None:
    if seen.acknowledged:
        seen.take("repeat", client.deliver(message_id=chance.choice(seen.acknowledged)))


def _read(_server: Server, client: Client, seen: Seen, chance: random.Random) -> None:
    path = chance.choice(
        [
            "/messages",
            "/messages?limit=100",
            "/stats",
            _with("/messages", since=_ago(30)),
        ]
    )
    seen.take(path, client.request("GET", path))


def _search(_server: Server, client: Client, seen: Seen, chance: random.Random) -> None:
    word = chance.choice(_WORDS)
    path = chance.choice(
        [
            _with("/messages", q=word),
            _with("/messages", q=word[:2]),
            _with("/stats", since=_ago(9)),
        ]
    )
    seen.take(path, client.request("GET", path))


def _stream(_server: Server, client: Client, seen: Seen, _chance: random.Random) -> None:
    path = _with("/messages", since=_ago(20))
    seen.take(path, client.request("GET", path, headers={"Accept": "application/x-ndjson"}))


def _scrape(_server: Server, client: Client, seen: Seen, chance: random.Random) -> None:
    path = chance.choice(["/metrics", "/health/ready", "/health/live"])
    seen.take(path, client.request("GET", path))


def _vanish(server: Server, _client: Client, _seen: Seen, chance: random.Random) -> None:
    """Leave in the middle of a request or before its answer, with a FIN or a reset."""
    body = encode(a_message(message_id=f"left-{chance.getrandbits(64):x}"))
    head = f"X-Signature: {signed(body)['X-Signature']}\r\nContent-Length: {len(body)}\r\n\r\n"
    wire = chance.choice(
        [
            f"POST /webhook HTTP/1.1\r\nHost: x\r\n{head}".encode() + body,
            b"GET /messages?q=otter HTTP/1.1\r\nHost: x\r\n\r\n",
            b"GET /messages HTTP/1.1\r\nHost: x\r\nAccept: application/x-ndjson\r\n\r\n",
        ]
    )
    with suppress(OSError), socket.create_connection(("127.0.0.1", server.port)) as leaving:
        leaving.sendall(wire[: chance.choice([0, 10, len(wire) - 5, len(wire)])])
        time.sleep(chance.choice([0, 0, 0.01, 0.2]))
        if chance.random() < 0.5:
            leaving.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)


# Each with so many threads, and a pause in seconds between two steps.
STEPS: list[tuple[Step, int, float]] = [
    (_deliver, 6, 0.02), (_repeat, 1, 0.05), (_read, 2, 0.05), (_search, 2, 0.2),
    (_stream, 1, 1.0), (_scrape, 1, 0.5), (_vanish, 2, 0.05),
]  # fmt: skip


def _ago(seconds: float) -> str:
    return (datetime.now(UTC) - timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _with(path: str, **parameters: str) -> str:
    return f"{path}?{urlencode(parameters)}"


def _work(server: Server, seen: Seen, stop: threading.Event, step: Step, pause_s: float) -> None:
    chance = random.Random()
    with server.client(30) as client:
        while not stop.wait(pause_s):
            try:
                step(server, client, seen, chance)
            except (OSError, http.client.HTTPException) as error:
                seen.unexpected.append(f"{step.__name__[1:]}: {error!r}")


def _look(server: Server, seen: Seen) -> Minute:
    """Return what was seen since the last look, and begin again."""
    statuses, seen.statuses = seen.statuses, Counter()
    times_s, seen.times_s = sorted(seen.times_s), []
    processes = [Path(f"/proc/{pid}") for pid in server.workers]
    pages = sum(int((process / "statm").read_text().split()[1]) for process in processes)
    return Minute(
        requests=statuses.total(),
        refused=statuses[503],
        p50_ms=times_s[len(times_s) // 2] * 1e3,
        p99_ms=times_s[len(times_s) * 99 // 100] * 1e3,
        memory=pages * os.sysconf("SC_PAGE_SIZE"),
        files=sum(1 for process in processes for _ in (process / "fd").iterdir()),
        wal=server.database.with_name("app.db-wal").stat().st_size,
        stored=len(seen.acknowledged),
    )


def soak(server: Server, seen: Seen, *, minutes: int, minute_s: float = _MINUTE_S) -> list[Minute]:
    """Use the service for some minutes; print and return what each was like."""
    stop, looks = threading.Event(), list[Minute]()
    threads = [
        threading.Thread(target=_work, args=(server, seen, stop, step, pause_s))
        for step, number, pause_s in STEPS
        for _ in range(number)
    ]
    for thread in threads:
        thread.start()
    try:
        print(HEADING, flush=True)  # noqa: T201
        for number in range(1, minutes + 1):
            time.sleep(minute_s)
            looks.append(_look(server, seen))
            print(f"{number:6}  {looks[-1]}", flush=True)  # noqa: T201
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    return looks


def faults(server: Server, seen: Seen, workers: list[int], looks: list[Minute]) -> list[str]:
    """Return what went wrong."""
    found = seen.unexpected[:20]
    if lost := set(seen.acknowledged) - server.ids():
        found.append(f"{len(lost)} acknowledged messages are lost")
    if server.workers != workers:
        found.append(f"workers have died: {workers} are now {server.workers}")
    first, last = looks[0], looks[-1]
    if last.memory - first.memory > _MAY_GROW_BYTES:
        found.append("the memory of the workers has grown")
    if last.files - first.files > _MAY_GROW_FILES:
        found.append("so have the files that they have open")
    with (server.folder / "stdout").open() as lines:
        found += [f"logged: {line[:200]}" for line in lines if "traceback" in json.loads(line)]
    return found


def main(minutes: int) -> None:
    seen = Seen()
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(Path(folder), WEB_CONCURRENCY=_WORKERS) as server,
    ):
        workers = server.wait_for_workers(_WORKERS)
        looks = soak(server, seen, minutes=minutes)
        found = faults(server, seen, workers, looks)
    print(f" first  {looks[0]}\n  last  {looks[-1]}")  # noqa: T201
    print(*(found or ["nothing lost, nothing odd"]), sep="\n")  # noqa: T201
    sys.exit(bool(found))


if __name__ == "__main__":
    main(int(sys.argv[1]))
