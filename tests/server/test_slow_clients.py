"""Clients that are slow, silent or gone: they end, and nobody waits for them."""

import json
import socket
import time
from contextlib import ExitStack, suppress
from pathlib import Path

from tests.server.clients import (
    GET,
    a_delivery,
    connect,
    exchange,
    fill,
    not_served,
    read_all,
    read_head,
    readable,
    status,
    streams,
)
from tests.serving import HURRIED, QUICK, Server, serving, wait_until
from webhook_api.server.executors import STREAMS


def test_a_body_that_stops_halfway_is_408_as_json(hurried: Server) -> None:
    head, body = a_delivery()
    started = time.monotonic()

    reply = exchange(hurried, head + body[:10])

    assert status(reply) == 408
    assert json.loads(reply.partition(b"\r\n\r\n")[2])["detail"]
    assert HURRIED["RECEIVE_S"] - 0.1 < time.monotonic() - started < 20


def test_half_a_head_is_408_and_no_head_is_closed_after_a_while(hurried: Server) -> None:
    started = time.monotonic()
    with connect(hurried) as silent, connect(hurried) as halfway:
        halfway.sendall(GET)

        replies = read_all(silent), read_all(halfway)

    assert replies[0] == b""
    assert status(replies[1]) == 408
    assert HURRIED["RECEIVE_S"] - 0.1 < time.monotonic() - started < 20


def test_a_client_that_leaves_in_the_middle_of_its_body_is_logged_as_408(server: Server) -> None:
    head, body = a_delivery("X-Request-ID: left-early", message_id="left early")
    with connect(server) as client:
        client.sendall(head + body[:10])
        client.shutdown(socket.SHUT_WR)

        reply = read_all(client)

    assert status(reply) == 408
    [line] = [line for line in server.log if line.get("client_request_id") == "left-early"]
    assert (line["status"], line["result"]) == (408, "incomplete")
    assert "left early" not in server.ids()


SEND_S = 4


def test_a_page_is_sent_as_slowly_as_it_is_taken_and_dropped_if_it_is_not_taken(
    tmp_path: Path,
) -> None:
    ask = b"GET /messages?limit=100 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    with serving(tmp_path, QUICK, WEB_CONCURRENCY=1, SEND_S=SEND_S) as server, ExitStack() as stack:
        fill(server.database, messages=100, prefix="m" * 45_000)  # 4.9 MB
        steady, *idle = [stack.enter_context(socket.socket()) for _ in range(5)]
        for client in (steady, *idle):
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
            client.connect(("127.0.0.1", server.port))
            client.sendall(ask)
        live = server.get("/health/live")
        started = time.monotonic()
        page = b""
        while part := steady.recv(100_000):
            page += part
            time.sleep(0.1)
        took = time.monotonic() - started
        wait_until(lambda: any("dropped" in line.get("message", "") for line in server.log))

    assert live.status == 200
    assert took > SEND_S  # longer than a client that takes nothing is given
    assert len(json.loads(page.partition(b"\r\n\r\n")[2])["data"]) == 100


def test_a_client_that_leaves_a_stream_is_one_line_and_not_an_error(tmp_path: Path) -> None:
    ask = b"GET /messages HTTP/1.1\r\nHost: x\r\nAccept: application/x-ndjson\r\n\r\n"
    with serving(tmp_path, WEB_CONCURRENCY=1) as server:
        fill(server.database, messages=200, prefix="m" * 45_000)
        with connect(server) as client:
            client.sendall(ask)
            read_head(client)
            client.shutdown(socket.SHUT_WR)
            read_all(client)
        wait_until(lambda: streams(server).total() == 1)
        lines = server.log

    assert [line["stream"] for line in lines if "stream" in line] == ["client_left"]
    assert {line["level"] for line in lines if "status" in line} == {"INFO"}


def test_150_slow_clients_do_not_keep_others_waiting(server: Server) -> None:
    head, body = a_delivery()
    with ExitStack() as stack:
        slow = [stack.enter_context(connect(server)) for _ in range(150)]
        for number, client in enumerate(slow):
            client.sendall([b"", b"GET / HT", head, head + body[:20], b"\r\n"][number % 5])
        for number in range(60):
            for client in slow[number % 5 :: 30]:
                with suppress(OSError):  # it was told 408 by then
                    client.sendall(b"x" if number % 5 else b"G")

            assert server.get("/health/live").status == 200
            assert server.deliver(message_id=f"beside-{number}").status == 200


def test_clients_that_do_not_read_do_not_keep_others_waiting(tmp_path: Path) -> None:
    head = b"GET /messages HTTP/1.1\r\nHost: x\r\nAccept: application/x-ndjson\r\n\r\n"

    with serving(tmp_path, WEB_CONCURRENCY=1) as server:
        fill(server.database, messages=100, prefix="m" * 45_000)
        with ExitStack() as stack:
            clients = [stack.enter_context(socket.socket()) for _ in range(STREAMS + 2)]
            for client in clients:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
                client.connect(("127.0.0.1", server.port))
                client.sendall(head)
            live = server.get("/health/live")
            delivered = server.deliver(message_id="beside")
            wait_until(lambda: len(readable(clients)) == STREAMS + 2)
            refused = not_served(server)["no_turn"]
        wait_until(lambda: streams(server).total() == STREAMS + 2)

    assert (live.status, delivered.status) == (200, 200)
    assert refused == 2
