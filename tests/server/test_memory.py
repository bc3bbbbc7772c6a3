"""What runs out: memory, files and a disk that hangs; it is bounded, and others are served."""

import json
import os
import resource
import select
import signal
import socket
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.server.clients import (
    GET,
    a_delivery,
    connect,
    fill,
    not_served,
    read_head,
    read_reply,
    readable,
    status,
    streams,
)
from tests.serving import FAULTY, QUICK, Reply, serving, wait_until

HELD_BYTES = 48 * 2**20  # of unfinished requests, in a process


def test_clients_that_pipeline_without_reading_cost_little_memory(tmp_path: Path) -> None:
    with serving(tmp_path, WEB_CONCURRENCY=1) as server, ExitStack() as stack:
        before = server.memory_bytes()
        clients = [stack.enter_context(connect(server)) for _ in range(20)]
        until = time.monotonic() + 0.5
        while time.monotonic() < until:
            for client in select.select([], clients, [], 0.1)[1]:
                client.send((GET + b"\r\n") * 1000, socket.MSG_DONTWAIT)
        delivered = server.deliver(message_id="beside")
        after = server.memory_bytes()

    assert delivered.status == 200
    assert after - before < 60e6


@pytest.mark.parametrize(("query", "waits"), [("limit=100", True), ("q=x&limit=100", False)])
def test_pages_that_are_not_taken_cost_little_memory(
    tmp_path: Path, query: str, waits: bool
) -> None:
    with (
        serving(tmp_path, WEB_CONCURRENCY=1, READ_DEADLINE_S=60) as server,
        ExitStack() as stack,
    ):
        fill(server.database, messages=100, prefix="m" * 45_000)  # 4.9 MB
        before = server.memory_bytes()
        clients = [stack.enter_context(connect(server)) for _ in range(24)]
        for client in clients:
            client.sendall(f"GET /messages?{query} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        delivered = server.deliver_all(f"z{number}" for number in range(20))
        wait_until(lambda: len(readable(clients)) == 24)
        wait_until(lambda: streams(server).total() == 24)
        grew = server.memory_bytes() - before

    # A search that has no turn within a second is refused; a page waits.
    assert streams(server)[200] == 24 or not waits
    assert streams(server)[200]
    assert delivered == {200: 20}
    assert grew < 90e6  # all of these pages are 118 MB


def test_streams_of_long_messages_cost_little_memory(tmp_path: Path) -> None:
    ask = b"GET /messages HTTP/1.1\r\nHost: x\r\nAccept: application/x-ndjson\r\n\r\n"
    with serving(tmp_path, WEB_CONCURRENCY=1) as server, ExitStack() as stack:
        fill(server.database, messages=200, prefix="m" * 45_000)
        before = server.memory_bytes()
        whole = server.get_stream()
        for _ in range(12):
            client = stack.enter_context(connect(server))
            client.sendall(ask)
            read_head(client)
        grew = server.memory_bytes() - before

    assert grew < 60e6  # with chunks of 1000 rows, whatever their size, 100 MB
    assert whole.body.count(b"\n") == 200


def test_the_memory_for_unfinished_requests_is_bounded(tmp_path: Path) -> None:
    head, _ = a_delivery("Content-Length: 262144", framed=False)
    sent = head + b"x" * 262_000

    with (
        serving(tmp_path, QUICK, WEB_CONCURRENCY=1, RECEIVE_S=60) as server,
        ExitStack() as stack,
    ):
        waiting = [stack.enter_context(connect(server)) for _ in range(300)]
        refused = []

        def rest_fits() -> bool:
            for client in readable(waiting):
                refused.append(read_reply(client))
                waiting.remove(client)
            return len(waiting) * len(sent) <= HELD_BYTES

        for client in waiting:
            client.sendall(sent)
        live = server.get("/health/live")
        delivered = server.deliver(message_id="beside")
        wait_until(rest_fits)
        memory = server.memory_bytes()
        counted = not_served(server)

    assert (live.status, delivered.status) == (200, 200)
    assert {status(reply) for reply in refused} == {503}
    assert counted["no_room"] == len(refused)
    assert b"Retry-After: 2" in refused[0]
    assert json.loads(refused[0].partition(b"\r\n\r\n")[2])["detail"]
    assert len(refused) < 150
    assert memory < 250e6


def test_a_worker_without_free_files_or_threads_goes_on(tmp_path: Path) -> None:
    with serving(tmp_path, WEB_CONCURRENCY=1) as server, ExitStack() as stack:
        (worker,) = server.workers
        resource.prlimit(worker, resource.RLIMIT_NOFILE, (60, 60))
        for _ in range(100):
            stack.enter_context(connect(server))
        live = server.get("/health/live")

        assert live.status == 200
        assert server.workers == [worker]


def test_more_idle_connections_than_files_do_not_stop_deliveries(tmp_path: Path) -> None:
    with serving(tmp_path, WEB_CONCURRENCY=1) as server, ExitStack() as stack:
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


READ_DEADLINE_S = 0.5


def test_reads_that_hang_are_503_in_time_and_deliveries_go_on(tmp_path: Path) -> None:
    switch = tmp_path / "hang"
    settings = {"READS_HANG_WHILE": switch, "READ_DEADLINE_S": READ_DEADLINE_S}
    paths = ["/messages", "/messages?q=a", "/stats", "/inbox", "/messages"]
    replies: dict[int, tuple[Reply, float]] = {}
    with serving(tmp_path, FAULTY, WEB_CONCURRENCY=1, **settings) as server:
        server.deliver(message_id="before")
        switch.touch()

        def ask(number: int) -> None:
            started = time.monotonic()
            reply = server.get(paths[number])
            replies[number] = reply, time.monotonic() - started

        threads = [threading.Thread(target=ask, args=[number]) for number in range(len(paths))]
        for thread in threads:
            thread.start()
        delivered = [server.deliver(message_id=f"beside-{number}").status for number in range(20)]
        live = server.get("/health/live").status
        for thread in threads:
            thread.join()
        switch.unlink()
        later: list[int] = []

        def can_read() -> bool:
            later.append(server.get("/messages").status)
            return later[-1] == 200

        wait_until(can_read)
        time.sleep(0.2)
        lines = [line for line in server.log if line.get("status") == 503]

    assert {reply.status for reply, _ in replies.values()} == {503}
    assert all(reply.headers["retry-after"] for reply, _ in replies.values())
    assert max(took for _, took in replies.values()) < 20  # they hang until all are answered
    assert (set(delivered), live) == ({200}, 200)
    # One for each, though their threads ended later.
    assert len(lines) == len(paths) + later.count(503)
    assert len({line["request_id"] for line in lines}) == len(lines)
