"""What hostile clients do to a delivery beside them: `python -m tests.tools.strangers`.

One attack runs after the other, each in a process of its own with a low priority, against a
service with one worker, so that every attack meets the deliveries. Meanwhile a signed message is
delivered every 20 ms. Its worst time is printed for each attack, and must stay under 250 ms.
"""

import http.client
import json
import os
import random
import resource
import socket
import struct
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple

import click

from tests.builders import a_message, encode, signed
from tests.forks import Forked
from tests.providers.samples import SETTINGS, from_meta, signed_as
from tests.server.clients import fill
from tests.serving import Server, serving
from tests.tools.benchmarks.harness import show_table

MAX_MS = 250.0
TOKEN = "a-token-for-readers"
_EVERY_S = 0.02
_PAUSE_S = 0.1  # of clients that send slowly
_SETTLE_S = 0.5  # after an attack
_LARGE = 600  # messages of 4 KiB
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close with a reset

Attack = Callable[[int, float], None]  # against a port, until time.monotonic()
Wire = Callable[[], bytes]


def raw(method: str, target: str, *headers: str, body: bytes | None = None) -> bytes:
    lines = [f"{method} {target} HTTP/1.1", "Host: x", *headers]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b"")


CLOSE = "Connection: close"
FORM = "Content-Type: application/x-www-form-urlencoded"
READER = f"Authorization: Bearer {TOKEN}"


def flood(wire: Wire, clients: int) -> Attack:
    """Return clients that send a request, read the answer, and connect again."""

    def work(port: int, until: float) -> None:
        while time.monotonic() < until:
            with suppress(OSError), _connected(port) as client:
                client.sendall(wire())
                while client.recv(65_536) and time.monotonic() < until:
                    pass

    return _in_threads(work, clients)


def always(wire: bytes, clients: int) -> Attack:
    return flood(lambda: wire, clients)


def hold(begin: bytes, drip: bytes, clients: int, *, half_closed: bool = False) -> Attack:
    """Return clients that never read: they send the beginning, then a little again and again."""

    def work(port: int, until: float) -> None:
        held: list[socket.socket] = []
        while time.monotonic() < until:
            while len(held) < clients and time.monotonic() < until:
                client = socket.socket()
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
                client.settimeout(1)
                with suppress(OSError):
                    client.connect(("127.0.0.1", port))
                    client.sendall(begin)
                    if half_closed:
                        client.shutdown(socket.SHUT_WR)
                client.setblocking(False)
                held.append(client)
            time.sleep(_PAUSE_S)
            held = [client for client in held if _lives(client, drip)]

    return work


def _lives(client: socket.socket, drip: bytes) -> bool:
    """Send a little; close the client and return False if the server has ended it."""
    try:
        if drip:
            client.send(drip)
        elif not client.recv(1, socket.MSG_PEEK):
            raise ConnectionResetError
    except BlockingIOError:
        pass
    except OSError:
        client.close()
        return False
    return True


def churn(clients: int, reset: bool) -> Attack:
    """Return clients that connect, send half a line and leave, as often as they can."""

    def work(port: int, until: float) -> None:
        while time.monotonic() < until:
            with suppress(OSError), _connected(port) as client:
                client.sendall(b"POST /webh")
                if reset:
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)

    return _in_threads(work, clients)


def _connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=10)


def _in_threads(work: Attack, number: int) -> Attack:
    def attack(port: int, until: float) -> None:
        threads = [threading.Thread(target=work, args=(port, until)) for _ in range(number)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    return attack


def _pipelined(wire: bytes, count: int) -> bytes:
    return wire * (count - 1) + wire.replace(b"\r\n", f"\r\n{CLOSE}\r\n".encode(), 1)


def _search() -> bytes:
    phrase = "".join(random.choices("xyzabc", k=random.choice([1, 2, 5])))
    return raw("GET", f"/messages?q={phrase}&offset={random.randrange(9999)}", CLOSE, READER)


def _chunks(path: str, count: int) -> bytes:
    return (
        raw("POST", path, CLOSE, "Transfer-Encoding: chunked")
        + b"1\r\na\r\n" * count
        + b"0\r\n\r\n"
    )


@cache
def _signed_list() -> bytes:
    """Return a delivery of Meta with as many empty messages as fit: signed, but not by us."""
    body = from_meta(messages="\0").replace(b'"\\u0000"', b"[" + b"{}," * 900_000 + b"{}]")
    headers = signed_as("meta", body, now=time.time())
    return raw(
        "POST", "/webhook/meta", CLOSE, *(f"{k}: {v}" for k, v in headers.items()), body=body
    )


_REGEX = "/webhook?" + "/inbox?" * 400 + "&from=x" * 400 + "&" * 2000
_PAGE = raw("GET", "/messages?limit=100", READER)
_WRONG = raw("POST", "/webhook", "X-Signature: 0", body=encode(a_message()))
_DEEP = raw("POST", "/webhook", CLOSE, body=b"[" * 250_000)

ATTACKS: dict[str, Attack] = {
    "slow heads, 500": hold(b"GET /health/live HTTP/1.1\r\nX-A: ", b"a", 500),
    "slow bodies, 500": hold(raw("POST", "/webhook", "Content-Length: 200000"), b"a", 500),
    "slow chunks, 500": hold(
        raw("POST", "/webhook", "Transfer-Encoding: chunked"), b"1\r\na\r\n", 500
    ),
    "idle connections, 3000": hold(b"", b"", 3000),
    "half a request, half-closed, 1000": hold(_WRONG[:-20], b"", 1000, half_closed=True),
    "a request, half-closed, 500": hold(_WRONG, b"", 500, half_closed=True),
    "large pages never read, 100 x 50": hold(_PAGE * 50, b"", 100),
    "streams never read, 64": hold(
        raw("GET", "/messages", READER, "Accept: application/x-ndjson"), b"", 64
    ),
    "pipelined, 4 x 10,000 probes": always(
        _pipelined(raw("GET", "/health/live"), 10_000), 4
    ),
    "pipelined, 4 x 10,000 wrong signatures": always(_pipelined(_WRONG, 10_000), 4),
    "pipelined probes never read, 64": hold(raw("GET", "/openapi.json") * 1000, b"", 64),
    "pipelined pages, 4 x 1000": always(_pipelined(_PAGE, 1000), 4),
    "wrong signatures, 64": always(_WRONG.replace(b"X-S", b"Connection: close\r\nX-S"), 64),
    "login, a&a&, 64": always(raw("POST", "/inbox/login", CLOSE, FORM, body=b"a&" * 8000), 64),
    "login, %ff, 64": always(raw("POST", "/inbox/login", CLOSE, FORM, body=b"%ff" * 5300), 64),
    "login, wrong tokens, 64": always(
        raw("POST", "/inbox/login", CLOSE, FORM, body=b"token=a"), 64
    ),
    "form to twilio, %ff, 16": always(
        raw("POST", "/webhook/twilio", CLOSE, FORM, body=b"%ff" * 80_000), 16
    ),
    "form to twilio, a=b&, 16": always(
        raw("POST", "/webhook/twilio", CLOSE, FORM, body=b"a=b&" * 60_000), 16
    ),
    "searches, 160": flood(_search, 160),
    "searches by odd spellings, 32": always(raw("GET", "/messages?q=%20hello", CLOSE, READER), 32),
    "searches and gone, 64": hold(raw("GET", "/messages?q=zz", READER), b"a", 64, half_closed=True),
    "deliveries in absolute form, 32": always(
        raw("POST", "http://x/webhook", CLOSE, body=b"{}"), 32
    ),
    "16,000 chunks, 16": always(_chunks("/webhook", 16_000), 16),
    "260,000 chunks, 4": always(_chunks("/webhook", 260_000), 4),
    "16,000 chunks to the login, 16": always(_chunks("/inbox/login", 16_000), 16),
    "a long signed list, 2": flood(_signed_list, 2),
    "deep brackets, 16": always(_DEEP, 16),
    "bodies of 256 KiB, 16": always(raw("POST", "/webhook", CLOSE, body=b"a" * 262_144), 16),
    "8 kB for a regex, 2": always(raw("GET", _REGEX, CLOSE), 2),
    "64 KiB heads, 64": always(raw("GET", "/", CLOSE, "X-A: " + "a" * 65_000), 64),
    "64 KiB heads of lines, 64": always(raw("GET", "/", CLOSE, *["X-A: b"] * 8000), 64),
    "64 KiB heads without an end, 200": hold(b"GET / HTTP/1.1\r\nX-A: " + b"a" * 65_000, b"a", 200),
    "not HTTP, 32": always(b"\x16\x03\x01\x02\x00" + b"\xff\x00" * 500, 32),
    "connection churn, 16": churn(16, reset=False),
    "connection churn with resets, 16": churn(16, reset=True),
}  # fmt: skip


class Steady(NamedTuple):
    """The deliveries beside an attack."""

    times_ms: list[float]
    failed: Counter[str]


def deliver_steadily(server: Server, name: str, until: float) -> Steady:
    """Deliver a message every 20 ms, and take the time of each."""
    steady = Steady([], Counter())
    number = 0
    with server.client(timeout_s=60) as client:
        while (began := time.monotonic()) < until:
            number += 1
            try:
                body = encode(a_message(message_id=f"{name} {number}"))
                status = client.request("POST", "/webhook", body, signed(body)).status
                if status != 200:
                    steady.failed[str(status)] += 1
            except (OSError, http.client.HTTPException) as error:
                steady.failed[type(error).__name__] += 1
            took = time.monotonic() - began
            steady.times_ms.append(took * 1000)
            time.sleep(max(0.0, _EVERY_S - took))
    return steady


def _attack(name: str, port: int, until: float) -> None:
    os.nice(10)  # the service is tried, not how many processes share the cores
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 20_000), most))
    ATTACKS[name](port, until)
    os._exit(0)  # threads may still wait for an answer


def _row(name: str, steady: Steady) -> list[object]:
    times = sorted(steady.times_ms)
    good = times[-1] < MAX_MS and not steady.failed
    return [
        name,
        len(times),
        f"{times[len(times) // 2]:.0f}",
        f"{times[len(times) * 99 // 100]:.0f}",
        f"{times[-1]:.0f}",
        json.dumps(steady.failed) if steady.failed else "0",
        "" if good else "BAD",
    ]


@click.command()
@click.option("--seconds", default=4.0, show_default=True, help="Length of each attack.")
@click.option("--only", default="", help="Only attacks with this in their name.")
@click.option("--workers", default=1, show_default=True, help="Of the service.")
def main(seconds: float, only: str, workers: int) -> None:
    """Attack the service, and print how long the deliveries beside each attack took."""
    rows = []
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(
            Path(folder), WEB_CONCURRENCY=workers, READ_TOKEN=TOKEN, LOG_LEVEL="ERROR", **SETTINGS
        ) as server,
    ):
        fill(server.database, messages=_LARGE)
        rows.append(_row("nobody", deliver_steadily(server, "nobody", time.monotonic() + seconds)))
        for name in ATTACKS:
            if only not in name:
                continue
            before = server.workers
            until = time.monotonic() + seconds
            attack = Forked(_attack, name, server.port, until)
            steady = deliver_steadily(server, name, until)
            attack.kill()
            attack.wait(10)
            if server.workers != before:
                steady.failed["worker died"] += 1
            rows.append(_row(name, steady))
            click.echo(" ".join(map(str, rows[-1])), err=True)
            time.sleep(_SETTLE_S)
    show_table(("", "deliveries", "p50 ms", "p99 ms", "worst ms", "failed", ""), rows)
    sys.exit(any(row[-1] for row in rows))


if __name__ == "__main__":
    main()
