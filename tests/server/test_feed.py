"""Requests that wait for messages: woken by every process, in nobody's way, and none is lost."""

import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest

from tests.builders import samples
from tests.server.clients import CLOSE, connect, read_all
from tests.serving import Server, serving, wait_until
from webhook_api.server.arrivals import MAX_WAITING


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("server"), WEB_CONCURRENCY=4) as server:
        yield server


def wait_for(server: Server, position: str, wait_s: int, more: str = "") -> Any:
    return server.get(f"/messages?after={position}&wait={wait_s}{more}").json


def number_waiting(server: Server) -> float:
    return samples(server.get("/metrics").body.decode())["feed_waiting"]


def end_of(server: Server) -> str:
    return str(server.get("/messages?after=now").json["position"])


def test_a_message_in_any_process_wakes_those_who_wait_in_all(server: Server) -> None:
    with ThreadPoolExecutor(12) as pool:
        for number in range(8):
            position = end_of(server)
            waiting = [pool.submit(wait_for, server, position, 20) for _ in range(12)]
            time.sleep(random.uniform(0, 0.15))  # also between the read and the wait
            server.deliver(message_id=f"wake-{number}")
            pages = [one.result() for one in waiting]
            for page in pages:
                assert [one["message_id"] for one in page["data"]] == [f"wake-{number}"]


def test_who_waits_from_now_on_gets_the_next_message(server: Server) -> None:
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(wait_for, server, "now", 20)
        wait_until(lambda: number_waiting(server) == 1)
        server.deliver(message_id="next")
        page = waiting.result()

    assert [one["message_id"] for one in page["data"]] == ["next"]


def test_without_a_message_the_answer_is_empty_after_the_wait(server: Server) -> None:
    position = end_of(server)
    started = time.monotonic()

    page = wait_for(server, position, 1)

    assert page == {"data": [], "position": position, "more": False}
    assert 0.9 < time.monotonic() - started < 15


def test_a_filter_that_matches_nothing_waits_and_moves_on(server: Server) -> None:
    position = end_of(server)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(wait_for, server, position, 5, "&from=%2B999")
        wait_until(lambda: number_waiting(server) == 1)
        server.deliver(message_id="not-for-it")
        page = waiting.result()

    assert (page["data"], page["position"]) == ([], end_of(server))


def lines_of(server: Server, status: int) -> list[dict[str, Any]]:
    """Return the log lines of requests for messages."""
    lines = [line for line in server.log if line.get("path") == "/messages"]
    return [line for line in lines if line["status"] == status]


def test_so_many_may_wait_and_a_stop_answers_them(tmp_path: Path) -> None:
    with (
        serving(tmp_path, WEB_CONCURRENCY=1, WEB_THREADS=1, READ_DEADLINE_S=60) as server,
        ExitStack() as stack,
    ):
        path = f"/messages?after={end_of(server)}&wait=25"
        before = len(lines_of(server, 200))
        waiting = [stack.enter_context(connect(server)) for _ in range(MAX_WAITING)]
        for client in waiting:
            client.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\n{CLOSE}\r\n\r\n".encode())
        wait_until(lambda: number_waiting(server) == MAX_WAITING)
        refused = server.get(path)
        assert (refused.status, refused.headers["retry-after"]) == (503, "2")
        assert server.get("/messages").status == 200  # no thread waits
        left = waiting.pop()
        left.close()
        wait_until(lambda: len(lines_of(server, 499)) == 1)
        assert len(lines_of(server, 200)) - before == 1  # of those who wait, nobody is logged
        started = time.monotonic()

        os.kill(server.process.pid, signal.SIGTERM)
        answers = [read_all(client) for client in waiting]

        assert time.monotonic() - started < 20  # and not 25, as long as they may wait
    assert all(answer.startswith(b"HTTP/1.1 200") for answer in answers)
    assert all(b'"data":[]' in answer for answer in answers)
    assert len(lines_of(server, 200)) - before == MAX_WAITING  # one line for each


def test_each_message_is_seen_once_while_processes_are_killed(tmp_path: Path) -> None:
    stopped, all_delivered = threading.Event(), threading.Event()
    acknowledged: list[str] = []
    seen: list[list[str]] = [[] for _ in range(3)]

    def deliver(server: Server, number: int) -> None:
        for count in range(10_000):
            if stopped.is_set():
                return
            name = f"{number}-{count}"
            try:
                if server.deliver(message_id=name).status == 200:
                    acknowledged.append(name)
            except (OSError, HTTPException):
                pass

    def consume(server: Server, number: int) -> None:
        position = "start"
        while True:
            ending = all_delivered.is_set()
            try:
                page = wait_for(server, position, 0 if ending else 1)
                seen[number] += [one["message_id"] for one in page["data"]]
                position = page["position"]
                if ending and not page["data"]:
                    return
            except (OSError, HTTPException, TypeError, KeyError):
                time.sleep(0.05)

    with serving(tmp_path, WEB_CONCURRENCY=4) as server:
        with ThreadPoolExecutor(11) as pool:
            delivering = [pool.submit(deliver, server, number) for number in range(8)]
            consuming = [pool.submit(consume, server, number) for number in range(3)]
            for _ in range(5):
                time.sleep(0.6)
                os.kill(random.choice(server.workers), signal.SIGKILL)
            wait_until(lambda: len(acknowledged) > 100)
            stopped.set()
            wait(delivering)
            all_delivered.set()
        assert all(one.exception() is None for one in (*delivering, *consuming))

    for one in seen:
        assert len(one) == len(set(one))
        assert set(acknowledged) <= set(one)
        assert one == seen[0]
