"""POST /inbox/login under the real server: a flood of wrong tokens stops nothing else."""

import socket
import time
from collections.abc import Iterator
from urllib.parse import urlencode

import pytest

from tests.serving import Server, serving
from webhook_api.inbox.session import PAUSE_S
from webhook_api.server.worker import MAX_PAUSES

TOKEN = "a-token-for-readers"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
_GUESSES = 60


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    with serving(folder, WEB_CONCURRENCY=1, READ_TOKEN=TOKEN) as server:
        yield server


def test_wrong_tokens_hold_no_thread_and_keep_nobody_out(server: Server) -> None:
    body = urlencode({"token": "guess"}).encode()
    guess = (
        b"POST /inbox/login HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        b"Content-Type: application/x-www-form-urlencoded\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    )
    with server.client() as client:
        flood = [socket.create_connection(("127.0.0.1", server.port), 10) for _ in range(_GUESSES)]
        began = time.monotonic()
        for one in flood:
            one.sendall(guess)
        run_in_parallel = b"".join(one.recv(20) for one in flood[MAX_PAUSES:])

        right = urlencode({"token": TOKEN}).encode()
        entered = client.request("POST", "/inbox/login", right, FORM)
        cookie = entered.headers["set-cookie"].partition(";")[0]
        shown = client.request("GET", "/inbox", headers={"Cookie": cookie})
        ready = client.request("GET", "/health/ready")
        delivered = client.deliver()

        slow = b"".join(one.recv(20) for one in flood[:MAX_PAUSES])
        took = time.monotonic() - began
        for one in flood:
            one.close()
        lines = [line for line in server.log if line.get("path") == "/inbox/login"]

    assert (entered.status, shown.status, ready.status, delivered.status) == (303, 200, 200, 200)
    assert run_in_parallel.count(b" 401 ") == _GUESSES - MAX_PAUSES
    assert slow.count(b" 401 ") == MAX_PAUSES
    assert took >= PAUSE_S
    assert len(lines) == _GUESSES + 1


def test_a_long_or_broken_form_is_refused(server: Server) -> None:
    with server.client() as client:
        long = client.request("POST", "/inbox/login", b"token=" + b"x" * 20_000, FORM)
    with server.client() as client:
        odd = client.request("POST", "/inbox/login", b"%ff=%\xff&token", FORM)

    assert 400 <= long.status < 500
    assert odd.status == 401
