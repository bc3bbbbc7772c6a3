"""Sends mutated requests over raw sockets: what does the service do, and does it survive?

`python -m tests.tools.fuzz SECONDS SEED` prints what was seen.
"""

import random
import re
import select
import socket
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.builders import a_message, encode, signed
from tests.serving import QUICK, Server, serving

_CONNECTIONS = 40
_WORKERS = 2
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3}) ")
_PIECES = [
    b"\r\n", b"\n", b"\r", b"\r\n\r\n", b" ", b"\t", b":", b";", b"\0", b"\xff", b"0\r\n\r\n",
    b"Content-Length: 5\r\n", b"Content-Length: -1\r\n", b"Content-Length: 99999999999999\r\n",
    b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: identity\r\n", b"Host: y\r\n",
    b"Expect: 100-continue\r\n", b"Connection: close\r\n", b"HTTP/1.0", b"fffffff\r\n", b"/" * 9000,
]  # fmt: skip


@dataclass
class Found:
    """What the service has done."""

    sent: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    workers_lived: bool = False
    grew_bytes: int = 0
    lines: int = 0

    def count(self, answers: bytes) -> None:
        self.statuses.update(int(code) for code in _STATUS.findall(answers))


class _Client:
    """A connection that sends random requests, and reads some of the answers."""

    def __init__(self, port: int, chance: random.Random) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.sock.setblocking(False)
        self.left = _requests(chance)
        self.reads = chance.random() < 0.8
        self.read = b""

    def step(self, chance: random.Random) -> bool:
        """Do one thing; return whether the connection can still be used."""
        if self.reads and select.select([self.sock], [], [], 0)[0]:
            part = self.sock.recv(65_536)
            if not part:
                return False
            self.read += part
        if self.left:
            piece = self.left[: chance.choice([1, 10, 100, 1000, 100_000])]
            self.left = self.left[self.sock.send(piece) :]
        elif chance.random() < 0.1:
            self.sock.shutdown(socket.SHUT_WR)
        return chance.random() > (0.002 if self.left else 0.005)


def _requests(chance: random.Random) -> bytes:
    """Return one request or several, some of them mutated."""
    wire = b"".join(_request(chance) for _ in range(chance.choice([1, 1, 1, 2, 10, 50])))
    for _ in range(chance.choice([0, 0, 1, 1, 2, 5])):
        at = chance.randrange(len(wire))
        cut = chance.choice([0, 0, 1, 5, 50])
        wire = wire[:at] + chance.choice(_PIECES) + wire[at + cut :]
    return wire


def _request(chance: random.Random) -> bytes:
    if chance.random() < 0.4:
        path = chance.choice(["/health/live", "/messages", "/stats", "/nowhere", "/messages?q=a"])
        method = chance.choice(["GET", "HEAD", "OPTIONS", "DELETE"])
        return f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    body = encode(a_message(message_id=f"fuzz{chance.randrange(10**9)}"))
    signature = signed(body)["X-Signature"] if chance.random() < 0.7 else "no"
    head = f"POST /webhook HTTP/1.1\r\nHost: x\r\nX-Signature: {signature}\r\n".encode()
    if chance.random() < 0.1:
        body *= 2000  # longer than may be
    if chance.random() < 0.5:
        return head + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    size = chance.choice([1, 10, 1000])
    parts = [body[at : at + size] for at in range(0, min(len(body), 20_000), size)]
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in [*parts, b""])
    return head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks


def fuzz(server: Server, *, seconds: float, seed: int) -> Found:
    """Attack `server` for `seconds`, and until it has accepted something.

    The same seed sends the same, but at other moments.
    """
    found = Found()
    chance = random.Random(seed)
    server.wait_for_workers(_WORKERS)
    server.deliver_all(map(str, range(200)))  # each worker has made its threads and all else
    workers, memory = server.workers, server.memory_bytes()
    clients: list[_Client] = []
    until = time.monotonic() + seconds
    while time.monotonic() < until or not found.statuses[200]:
        assert time.monotonic() < until + 60, found
        while len(clients) < _CONNECTIONS:
            clients.append(_Client(server.port, chance))
            found.sent += 1
        for client in list(clients):
            goes_on = False
            with suppress(OSError):
                goes_on = client.step(chance)
            if not goes_on:
                clients.remove(client)
                client.sock.close()
                found.count(client.read)
    for client in clients:
        client.sock.close()
        found.count(client.read)
    assert server.get("/health/live").status == 200
    assert server.deliver(message_id="after all").status == 200
    found.workers_lived = server.workers == workers
    found.grew_bytes = server.memory_bytes() - memory
    found.lines = len(server.log)  # each of which is JSON
    return found


def main(seconds: float, seed: int) -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(Path(folder), QUICK, WEB_CONCURRENCY=_WORKERS) as server,
    ):
        print(fuzz(server, seconds=seconds, seed=seed))  # noqa: T201


if __name__ == "__main__":
    main(float(sys.argv[1]), int(sys.argv[2]))
