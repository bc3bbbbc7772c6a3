"""The HTTP server with slow, silent, odd and greedy clients, seen from outside."""

import json
import os
import re
import resource
import select
import signal
import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import pytest

from tests.builders import a_message, encode, signed
from tests.serving import Server, serving, wait_until
from webhook_api.models import parse_message
from webhook_api.server.framing import Arrival, Incoming
from webhook_api.store import connections
from webhook_api.store.messages import insert_messages

RECEIVE_TIMEOUT_S = 0.6  # in quick.conf.py
QUICK = ["--config", "tests/quick.conf.py"]

LIMIT = 262_144
HELD_BYTES = 48 * 2**20  # of unfinished requests, in a process


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    with serving(folder, QUICK, WEB_CONCURRENCY=1, WEB_THREADS=8) as server:
        yield server


def connect(server: Server, timeout_s: float = 10.0) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=timeout_s)


def read_all(client: socket.socket) -> bytes:
    """Return all bytes until the server closes the connection."""
    received = b""
    try:
        while part := client.recv(65_536):
            received += part
    except ConnectionResetError:
        pass
    return received


def read_reply(client: socket.socket) -> bytes:
    """Return one answer, which has a Content-Length."""
    received = b""
    while b"\r\n\r\n" not in received:
        part = client.recv(65_536)
        assert part, received
        received += part
    head, _, body = received.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
    while length and len(body) < int(length[1]):
        body += client.recv(65_536)
    return head + b"\r\n\r\n" + body


def exchange(server: Server, *parts: bytes) -> bytes:
    """Send `parts` one after the other, and return all that comes back."""
    with connect(server) as client:
        for part in parts:
            client.sendall(part)
            time.sleep(0.01)
        return read_all(client)


def a_delivery(*headers: str, message_id: str = "m1", framed: bool = True) -> tuple[bytes, bytes]:
    """Return head and body of a signed delivery."""
    body = encode(a_message(message_id=message_id))
    lines = ["POST /webhook HTTP/1.1", "Host: x", f"X-Signature: {signed(body)['X-Signature']}"]
    if framed:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, *headers, "", ""]).encode(), body


def chunks(body: bytes, size: int) -> bytes:
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in [*parts, b""])


def status(reply: bytes) -> int:
    return int(reply.split(b" ", 2)[1])


CLOSE = "Connection: close"
GET = b"GET /health/live HTTP/1.1\r\nHost: x\r\n"


def test_a_body_that_stops_halfway_is_408_as_json(server: Server) -> None:
    head, body = a_delivery()
    started = time.monotonic()

    reply = exchange(server, head + body[:10])

    assert status(reply) == 408
    assert json.loads(reply.partition(b"\r\n\r\n")[2])["detail"]
    assert RECEIVE_TIMEOUT_S - 0.1 < time.monotonic() - started < RECEIVE_TIMEOUT_S + 3


def test_half_a_head_and_no_head_are_closed_after_a_while(server: Server) -> None:
    started = time.monotonic()
    with connect(server) as silent, connect(server) as halfway:
        halfway.sendall(GET)

        replies = read_all(silent), read_all(halfway)

    assert replies == (b"", b"")
    assert RECEIVE_TIMEOUT_S - 0.1 < time.monotonic() - started < RECEIVE_TIMEOUT_S + 3


def test_a_client_that_leaves_in_the_middle_of_its_body_is_logged_as_408(server: Server) -> None:
    head, body = a_delivery(message_id="left-early")
    with connect(server) as client:
        client.sendall(head + body[:10])
        client.shutdown(socket.SHUT_WR)

        reply = read_all(client)

    assert status(reply) == 408
    assert server.log[-1]["status"] == 408
    assert server.log[-1]["result"] == "incomplete"


@pytest.mark.parametrize(
    ("head", "refused"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: identity\r\n\r\n", 400),
        (
            b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n",
            501,
        ),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
        (
            b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
            400,
        ),
        (
            b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 501),
        (b"POST / HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5, 5\r\n\r\nhello", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +5\r\n\r\nhello", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length : 5\r\n\r\nhello", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    ],
)
def test_a_request_with_an_ambiguous_end_is_refused_and_closed(
    server: Server, head: bytes, refused: int
) -> None:
    before = not_served(server)
    reply = exchange(server, head + b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n")

    assert status(reply) == refused
    assert not_served(server) == before | {"malformed": before["malformed"] + 1}
    assert reply.count(b"HTTP/1.1 ") == 1
    assert not any(line.get("path") == "/smuggled" for line in server.log)


def test_http_1_0_needs_no_host(server: Server) -> None:
    assert status(exchange(server, b"GET /health/live HTTP/1.0\r\n\r\n")) == 200


def test_clients_that_pipeline_without_reading_cost_little_memory(tmp_path: Path) -> None:
    with serving(tmp_path, WEB_CONCURRENCY=1) as server, ExitStack() as stack:
        before = server.memory_bytes()
        clients = [stack.enter_context(connect(server)) for _ in range(20)]
        until = time.monotonic() + 1.5
        while time.monotonic() < until:
            for client in select.select([], clients, [], 0.1)[1]:
                client.send((GET + b"\r\n") * 1000, socket.MSG_DONTWAIT)
        delivered = server.deliver(message_id="beside")
        after = server.memory_bytes()

    assert delivered.status == 200
    assert after - before < 60e6


def test_a_worker_without_free_files_or_threads_goes_on(tmp_path: Path) -> None:
    with serving(tmp_path, WEB_CONCURRENCY=1, WEB_THREADS=4) as server, ExitStack() as stack:
        (worker,) = server.workers
        resource.prlimit(worker, resource.RLIMIT_NOFILE, (60, 60))
        for _ in range(100):
            stack.enter_context(connect(server))
        live = server.get("/health/live")

        assert live.status == 200
        assert server.workers == [worker]


def test_more_idle_connections_than_files_do_not_stop_deliveries(tmp_path: Path) -> None:
    with serving(tmp_path, WEB_CONCURRENCY=1, WEB_THREADS=8) as server, ExitStack() as stack:
        # The next worker may open so few.
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (200, 200))
        (first,) = server.workers
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: server.workers not in ([], [first]))
        workers = server.workers
        for _ in range(400):
            stack.enter_context(connect(server))
        statuses = server.deliver_all(map(str, range(30)), threads=4)

        assert statuses == {200: 30}
        assert server.workers == workers


def test_a_page_is_sent_as_slowly_as_it_is_taken_and_dropped_if_it_is_not_taken(
    tmp_path: Path,
) -> None:
    ask = b"GET /messages?limit=100 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    with serving(tmp_path, QUICK, WEB_CONCURRENCY=1, WEB_THREADS=2) as server, ExitStack() as stack:
        fill(server.database, messages=100, prefix="m" * 45_000)  # 4.9 MB
        steady, *idle = [stack.enter_context(socket.socket()) for _ in range(5)]
        for client in (steady, *idle):
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
            client.connect(("127.0.0.1", server.port))
            client.sendall(ask)
        live = server.get("/health/live", timeout_s=3)
        started = time.monotonic()
        page = b""
        while part := steady.recv(100_000):
            page += part
            time.sleep(0.03)
        took = time.monotonic() - started
        wait_until(lambda: any("dropped" in line.get("message", "") for line in server.log))

    assert live.status == 200
    assert took > 1.2  # longer than a client that takes nothing is given
    assert len(json.loads(page.partition(b"\r\n\r\n")[2])["data"]) == 100


@pytest.mark.parametrize(("query", "refuses"), [("limit=100", False), ("q=x&limit=100", True)])
def test_pages_that_are_not_taken_cost_little_memory(
    tmp_path: Path, query: str, refuses: bool
) -> None:
    with serving(tmp_path, WEB_CONCURRENCY=1) as server, ExitStack() as stack:
        fill(server.database, messages=100, prefix="m" * 45_000)  # 4.9 MB
        before = server.memory_bytes()
        for _ in range(40):
            client = stack.enter_context(connect(server))
            client.sendall(f"GET /messages?{query} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        times = [seconds_of_a_delivery(server, f"z{number}") for number in range(20)]
        wait_until(lambda: streams(server).total() + not_served(server)["no_turn"] == 40, 20)
        grew = server.memory_bytes() - before

    # A search that has no turn within a second is refused; a page waits.
    assert (streams(server)[200] < 40) is refuses
    assert streams(server)[200]
    assert sorted(times)[-2] < 0.5  # with all threads making pages, they took seconds
    assert grew < 100e6


def test_streams_of_long_messages_cost_little_memory(tmp_path: Path) -> None:
    ask = b"GET /messages HTTP/1.1\r\nHost: x\r\nAccept: application/x-ndjson\r\n\r\n"
    with serving(tmp_path, WEB_CONCURRENCY=1) as server, ExitStack() as stack:
        fill(server.database, messages=400, prefix="m" * 45_000)
        before = server.memory_bytes()
        whole = server.get_stream()
        for _ in range(12):
            client = stack.enter_context(connect(server))
            client.sendall(ask)
            read_head(client)
        grew = server.memory_bytes() - before

    assert grew < 60e6  # with chunks of 1000 rows, whatever their size, 200 MB
    assert whole.body.count(b"\n") == 400


def test_a_client_that_leaves_a_stream_is_one_line_and_not_an_error(tmp_path: Path) -> None:
    ask = b"GET /messages HTTP/1.1\r\nHost: x\r\nAccept: application/x-ndjson\r\n\r\n"
    with serving(tmp_path, WEB_CONCURRENCY=1) as server:
        fill(server.database, messages=4000)
        with connect(server) as client:
            client.sendall(ask)
            read_head(client)
            client.shutdown(socket.SHUT_WR)
            read_all(client)
        wait_until(lambda: streams(server).total() == 1)
        lines = server.log

    assert [line["stream"] for line in lines if "stream" in line] == ["client_left"]
    assert {line["level"] for line in lines} == {"INFO"}


def read_head(client: socket.socket) -> None:
    received = b""
    while b"\r\n\r\n" not in received:
        received += client.recv(1)


def seconds_of_a_delivery(server: Server, message_id: str) -> float:
    started = time.monotonic()
    assert server.deliver(message_id=message_id).status == 200
    return time.monotonic() - started


def test_150_slow_clients_do_not_keep_others_waiting(server: Server) -> None:
    head, body = a_delivery()
    with ExitStack() as stack:
        slow = [stack.enter_context(connect(server)) for _ in range(150)]
        for number, client in enumerate(slow):
            client.sendall([b"", b"GET / HT", head, head + body[:20], b"\r\n"][number % 5])
        slowest = 0.0
        for number in range(60):
            for client in slow[number % 5 :: 30]:
                with suppress(OSError):  # it was told 408 by then
                    client.sendall(b"x" if number % 5 else b"G")
            started = time.monotonic()

            assert server.get("/health/live").status == 200
            assert server.deliver(message_id=f"beside-{number}").status == 200
            slowest = max(slowest, time.monotonic() - started)

    assert slowest < 2


def test_clients_that_do_not_read_do_not_keep_others_waiting(tmp_path: Path) -> None:
    head = b"GET /messages HTTP/1.1\r\nHost: x\r\nAccept: application/x-ndjson\r\n\r\n"

    with serving(tmp_path, WEB_CONCURRENCY=1, WEB_THREADS=8) as server, ExitStack() as clients:
        fill(server.database, messages=2000)
        for _ in range(12):
            client = clients.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            client.connect(("127.0.0.1", server.port))
            client.sendall(head)
        live = server.get("/health/live", timeout_s=3)
        delivered = server.deliver(message_id="beside")
        wait_until(lambda: streams(server).total() + not_served(server)["no_turn"] == 12)

    assert (live.status, delivered.status) == (200, 200)
    assert streams(server) == {200: 1}  # the others never reached the application


def streams(server: Server) -> Counter[int]:
    return Counter(line["status"] for line in server.log if line.get("path") == "/messages")


def fill(database: Path, *, messages: int, text: str = "x" * 4096, prefix: str = "") -> None:
    """Store messages of 4 KiB, together more than the buffers of a socket hold."""
    with closing(connections.connect(database, "rw", patience_s=5)) as writer:
        for number in range(0, messages, 50):
            insert_messages(
                writer,
                [
                    parse_message(a_message(message_id=f"{prefix}{number + n}", text=text))
                    for n in range(50)
                ],
            )


def test_only_the_path_of_a_provider_takes_bodies_as_long_as_its_own(tmp_path: Path) -> None:
    settings = {"META_APP_SECRET": "a", "META_VERIFY_TOKEN": "b"}
    with serving(tmp_path, QUICK, WEB_CONCURRENCY=1, **settings) as server:
        started = time.monotonic()
        refused = {path: exchange(server, an_announced(path)) for path in PATHS}
        at_once = time.monotonic() - started
        meta = exchange(server, an_announced("/webhook/meta"))
        took = time.monotonic() - started - at_once

    assert {path: status(reply) for path, reply in refused.items()} == PATHS
    assert at_once < 0.5
    assert (status(meta), took > 0.5) == (408, True)  # the rest was waited for


PATHS = {"/webhook": 413, "/webhook?a": 413, "/nowhere": 404, "/messages": 405}


def an_announced(path: str) -> bytes:
    """Return a head that announces a body as long as only Meta's may be, and the start of it."""
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 2000000\r\n\r\n"
    return head.encode() + b"x" * 1000


def test_the_memory_for_unfinished_requests_is_bounded(tmp_path: Path) -> None:
    head, _ = a_delivery("Content-Length: 262144", framed=False)
    sent = head + b"x" * 262_000

    with serving(tmp_path, WEB_CONCURRENCY=1) as server, ExitStack() as stack:
        waiting = [stack.enter_context(connect(server)) for _ in range(300)]
        refused = []

        def rest_fits() -> bool:
            for client in readable(waiting):
                refused.append(read_reply(client))
                waiting.remove(client)
            return len(waiting) * len(sent) <= HELD_BYTES

        for client in waiting:
            client.sendall(sent)
        live = server.get("/health/live", timeout_s=3)
        delivered = server.deliver(message_id="beside")
        wait_until(rest_fits, 20)
        memory = server.memory_bytes()
        counted = not_served(server)

    assert (live.status, delivered.status) == (200, 200)
    assert {status(reply) for reply in refused} == {503}
    assert counted["no_room"] == len(refused)
    assert b"Retry-After: 2" in refused[0]
    assert json.loads(refused[0].partition(b"\r\n\r\n")[2])["detail"]
    assert len(refused) < 150
    assert memory < 250e6


def not_served(server: Server) -> dict[str, int]:
    """Return how many requests never reached the application, by reason."""
    exposition = server.get("/metrics").body.decode()
    found = re.findall(r'^requests_refused_total\{reason="(\w+)"\} (\d+)', exposition, re.MULTILINE)
    return {reason: int(count) for reason, count in found}


def readable(clients: list[socket.socket]) -> list[socket.socket]:
    """Return the clients that have an answer to read."""
    return select.select(clients, [], [], 0)[0]


def test_a_refused_request_line_is_logged_without_its_query(server: Server) -> None:
    refused = exchange(
        server, b"GET /messages?from=+919876500000&q=\xd9 HTTP/1.1\r\nHost: x\r\n\r\n"
    )

    assert refused.startswith(b"HTTP/1.1 400 ")
    assert any("/messages?..." in line.get("message", "") for line in server.log)
    assert "919876500000" not in json.dumps(server.log)


def test_no_header_changes_the_path_of_the_application(server: Server) -> None:
    answer = exchange(server, b"GET /health/live HTTP/1.0\r\nHost: x\r\nSCRIPT_NAME: /x\r\n\r\n")

    assert status(answer) == 200


@pytest.mark.parametrize(
    "stall",
    [
        b"POST /webhook HTTP/1.1\r\nHost: x\r\nContent-Length: 0000000000000000000005\r\n\r\n",
        b"POST /webhook HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\n",
        b"POST /webhook HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n-6\r\n",
        b"POST /webhook HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1" * 5000,
        b"POST /webhook HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nfffffff\r\nx",
        b"GET / HTTP/1.1\r\nX: " + b"x" * 70_000,
        b"\r\n\r\n",
        b"GET / HTTP/1.1\n\n",
    ],
    ids=["zeros", "bare-lf", "negative", "long-line", "huge-chunk", "long-head", "empty", "lf"],
)
def test_no_odd_framing_makes_a_thread_wait(server: Server, stall: bytes) -> None:
    with ExitStack() as stack:
        for _ in range(12):  # more than there are threads
            stack.enter_context(connect(server)).sendall(stall)
        time.sleep(0.1)
        started = time.monotonic()

        live = server.get("/health/live")

        assert live.status == 200
        assert time.monotonic() - started < 1.5


def test_broken_chunks_are_a_400(server: Server) -> None:
    head, _ = a_delivery("Transfer-Encoding: chunked", framed=False)

    reply = exchange(server, head + b"zz\r\n")

    assert status(reply) == 400


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_chunked_body_is_accepted_with_chunks_of_any_size(server: Server, size: int) -> None:
    head, body = a_delivery("Transfer-Encoding: chunked", CLOSE, framed=False)
    wire = chunks(body, size)

    reply = exchange(server, head, *(wire[at : at + 100] for at in range(0, len(wire), 100)))

    assert status(reply) == 200


def test_pipelined_requests_are_answered_in_their_order(server: Server) -> None:
    head, body = a_delivery(message_id="piped")
    with connect(server) as client:
        client.sendall(GET + b"\r\n" + head + body + GET + b"Connection: clo")
        time.sleep(0.05)
        client.sendall(b"se\r\n\r\n")

        replies = read_all(client)

    assert re.findall(rb"HTTP/1.1 (\d+)", replies) == [b"200"] * 3
    assert re.findall(rb'"status": ?"(\w+)"', replies) == [b"alive", b"ok", b"alive"]


def test_a_client_that_expects_100_is_told_to_go_on_exactly_once(server: Server) -> None:
    head, body = a_delivery("Expect: 100-continue", CLOSE, message_id="expecting")
    with connect(server) as client:
        client.sendall(head)

        told = client.recv(100)
        client.sendall(body)
        reply = read_all(client)

    assert told == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert reply.startswith(b"HTTP/1.1 200 ")
    assert reply.count(b"HTTP/1.1") == 1


def test_a_body_that_comes_before_the_100_gets_none(server: Server) -> None:
    head, body = a_delivery("Expect: 100-continue", CLOSE, message_id="impatient")

    reply = exchange(server, head + body)

    assert reply.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("headers", [[], ["Expect: 100-continue"]])
def test_a_body_announced_with_2_gb_is_refused_at_once(server: Server, headers: list[str]) -> None:
    head, _ = a_delivery("Content-Length: 2147483648", *headers, framed=False)
    started = time.monotonic()
    with connect(server) as client:
        client.sendall(head)

        reply = read_reply(client)

    assert status(reply) == 413
    assert time.monotonic() - started < 2


@pytest.mark.parametrize("chunked", [False, True])
def test_a_sender_of_20_mb_gets_to_read_its_413(server: Server, chunked: bool) -> None:
    body = b"x" * 20_000_000
    framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(body)}"
    head, _ = a_delivery(framing, framed=False)
    with connect(server) as client:
        client.sendall(head + (chunks(body, 50_000) if chunked else body))

        reply = read_reply(client)

    assert status(reply) == 413


def test_a_connection_is_kept_for_the_next_request_and_head_has_no_body(server: Server) -> None:
    with connect(server) as client:
        statuses = []
        for _ in range(3):
            client.sendall(GET + b"\r\n")
            statuses.append(status(read_reply(client)))
        client.sendall(GET.replace(b"GET", b"HEAD") + b"Connection: close\r\n\r\n")

        last = read_all(client)

    assert statuses == [200] * 3
    assert last.endswith(b"\r\n\r\n")


def test_a_request_after_an_unread_body_is_not_mistaken_for_it(server: Server) -> None:
    hidden = b"GET /hidden HTTP/1.1\r\nHost: x\r\n\r\n"
    post = b"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(hidden)
    with connect(server) as client:
        client.sendall(post + hidden + GET + b"Connection: close\r\n\r\n")

        replies = read_all(client)

    assert re.findall(rb"HTTP/1.1 (\d+)", replies) == [b"404", b"200"]
    assert not any(line.get("path") == "/hidden" for line in server.log)


def judged(data: bytes) -> Arrival:
    return Incoming({}, LIMIT).judge(bytearray(data))


CHUNKED = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("data", "arrival"),
    [
        (b"", Arrival.WAIT),
        (b"GET / HTTP/1.1\r\n", Arrival.WAIT),
        (b"GET / HTTP/1.1\r\n\r\n", Arrival.WHOLE),
        (b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nab", Arrival.WAIT),
        (b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", Arrival.WHOLE),
        (b"POST / HTTP/1.1\r\ncontent-length:\t003 \r\n\r\nab", Arrival.WAIT),
        (b"POST / HTTP/1.1\r\nX-Content-Length: 3\r\n\r\n", Arrival.WHOLE),
        (b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % (LIMIT + 1), Arrival.ENOUGH),
        (b"POST / HTTP/1.1\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n", Arrival.ENOUGH),
        (b"x" * 70_000, Arrival.ENOUGH),
        (CHUNKED, Arrival.WAIT),
        (CHUNKED + b"3\r\nabc", Arrival.WAIT),
        (CHUNKED + b"3\r\nabc\r\n0\r\n", Arrival.WAIT),
        (CHUNKED + b"3\r\nabc\r\n0\r\n\r\n", Arrival.WHOLE),
        (CHUNKED + b"3;name=value\r\nabc\r\n0\r\nTrailer: x\r\n\r\n", Arrival.WHOLE),
        (CHUNKED + b"%x\r\n" % (LIMIT + 9) + b"x" * (LIMIT + 9), Arrival.ENOUGH),
        (CHUNKED + b"fffffffff\r\n", Arrival.WAIT),
        (CHUNKED + b"1\r\nx\r\n" * 14_000, Arrival.ENOUGH),
        (CHUNKED + b"-6\r\n", Arrival.ENOUGH),
        (CHUNKED + b"0x3\r\n", Arrival.ENOUGH),
        (CHUNKED + b"3\n", Arrival.ENOUGH),
        (CHUNKED + b"\xff\r\n", Arrival.ENOUGH),
    ],
)
def test_framing_tells_when_a_request_is_whole(data: bytes, arrival: Arrival) -> None:
    assert judged(data) is arrival


LIMITS = {"/webhook": 100, "/webhook/meta": 300}


@pytest.mark.parametrize(
    ("target", "limit"),
    [
        ("/webhook", 100),
        ("/webhook/meta", 300),
        ("/webhook?x=/webhook/meta", 100),
        ("/webhook#x", 100),
        ("http://localhost:8000/webhook/meta?x", 300),
        ("HTTPS://x/webhook", 100),
        ("/%77ebhook", 100),
        ("/webhook/", 20),
        ("/webhook/other", 20),
        ("/", 20),
        ("*", 20),
        ("webhook", 20),
        ("http://x", 20),
        ("", 20),
        ("/\xff%ff", 20),
    ],
)
@pytest.mark.parametrize("before", ["", "\r\n"])
def test_how_long_a_body_may_be_depends_on_the_path(target: str, limit: int, before: str) -> None:
    for length, arrival in [(limit, Arrival.WAIT), (limit + 1, Arrival.ENOUGH)]:
        head = f"{before}POST {target} HTTP/1.1\r\nContent-Length: {length}\r\n\r\n"
        incoming = Incoming(LIMITS, 20)

        assert incoming.judge(bytearray(head.encode("latin-1"))) is arrival


def test_a_request_in_any_number_of_pieces_ends_at_the_same_byte() -> None:
    body = bytes(range(256)) * 4
    data = CHUNKED + chunks(body, 10)
    buffer = bytearray()
    incoming = Incoming({}, LIMIT)

    arrivals = []
    for at in range(len(data)):
        buffer += data[at : at + 1]
        arrivals.append(incoming.judge(buffer))

    assert arrivals == [Arrival.WAIT] * (len(data) - 1) + [Arrival.WHOLE]


def test_hostile_heads_take_little_time() -> None:
    heads = [
        b"Content-Length: " + b"0" * 60_000 + b"x",
        b"HTTP/1.1\r\nExpect: 100-continue " * 1500,
        b"Transfer-Encoding: " * 3000,
        b"Expect: " + b" " * 60_000 + b"x",
    ]
    started = time.monotonic()

    for head in heads:
        judged(b"POST / HTTP/1.1\r\n" + head + b"\r\n\r\n")

    assert time.monotonic() - started < 0.5
