"""Logins and sessions, if reads need a token; a flood of wrong tokens stops nothing else."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest
from flask.testing import FlaskClient

from tests.builders import SECRET, an_app
from tests.serving import Server, serving, wait_until
from webhook_api import close_app
from webhook_api.config import Config
from webhook_api.execution import EXECUTION_KEY, Execution
from webhook_api.inbox.session import MAX_SESSIONS, PAUSE_S, SESSION_S, Sessions
from webhook_api.server.worker import MAX_PAUSES

TOKEN = "a-token-for-readers"


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[FlaskClient]:
    """A client of a service with a read token."""
    config = Config(
        webhook_secret=SECRET,
        read_token=TOKEN,
        database_path=tmp_path / "b.db",
        check_connections=True,
    )
    app = an_app(config)
    yield app.test_client()
    close_app(app)


def test_nothing_is_shown_without_the_token(locked: FlaskClient) -> None:
    for url in ("/inbox", "/inbox?from=%2B919876543210", "/inbox/messages/1"):
        reply = locked.get(url)
        assert (reply.status_code, reply.headers["Location"][:12]) == (303, "/inbox/login")
    assert locked.get("/inbox/new?above=0").status_code == 401


def test_a_session_lets_in_until_logout(locked: FlaskClient) -> None:
    form = {"token": TOKEN, "next": "/inbox?q=a"}

    entered = locked.post("/inbox/login", data=form)
    seen = locked.get("/inbox")
    locked.post("/inbox/logout")

    cookie = entered.headers["Set-Cookie"]
    assert (entered.status_code, entered.headers["Location"]) == (303, "/inbox?q=a")
    assert {"HttpOnly", "SameSite=Strict", "Path=/inbox"} <= set(cookie.split("; "))
    assert TOKEN not in cookie
    assert seen.status_code == 200
    assert "READ_TOKEN" not in seen.text
    assert locked.get("/inbox").status_code == 303


def test_a_copied_cookie_is_dead_after_logout_and_another_session_lives(
    locked: FlaskClient,
) -> None:
    browser = locked.application.test_client(use_cookies=False)
    stolen, other = (
        browser.post("/inbox/login", data={"token": TOKEN}).headers["Set-Cookie"].partition(";")[0]
        for _ in range(2)
    )
    browser.post("/inbox/logout", headers={"Cookie": stolen})

    seen = [browser.get("/inbox", headers={"Cookie": cookie}) for cookie in (stolen, other)]

    assert [reply.status_code for reply in seen] == [303, 200]


def test_a_session_that_cannot_begin_is_503(locked: FlaskClient, tmp_path: Path) -> None:
    (tmp_path / "b.db.sessions").write_text("a file where the folder should be")

    reply = locked.post("/inbox/login", data={"token": TOKEN})

    assert (reply.status_code, "Set-Cookie" in reply.headers) == (503, False)
    assert "the session cannot begin" in reply.text


@pytest.mark.parametrize(
    ("scheme", "header", "is_secure"),
    [
        ("https", {}, True),  # as Gunicorn says when it trusts the proxy
        ("http", {"X-Forwarded-Proto": "https"}, True),
        ("http", {"X-Forwarded-Proto": "http"}, False),
        ("http", {}, False),
    ],
)
def test_the_cookie_is_secure_where_the_request_came_by_https(
    locked: FlaskClient, scheme: str, header: dict[str, str], is_secure: bool
) -> None:
    url = f"{scheme}://localhost/inbox/login"

    reply = locked.post(url, data={"token": TOKEN}, headers=header)

    assert ("Secure" in reply.headers["Set-Cookie"].split("; ")) is is_secure


@pytest.mark.parametrize("wanted", ["https://evil.test/", "//evil.test", "/inbox//../x", "/docs"])
def test_the_login_leads_nowhere_else(locked: FlaskClient, wanted: str) -> None:
    reply = locked.post("/inbox/login", data={"token": TOKEN, "next": wanted})

    assert reply.headers["Location"] == "/inbox"


def test_a_wrong_token_takes_its_time_and_keeps_no_right_one_out(locked: FlaskClient) -> None:
    executions = [Execution(), Execution()]

    wrong, right = (
        locked.post("/inbox/login", data={"token": token}, environ_base={EXECUTION_KEY: execution})
        for token, execution in zip(["x", TOKEN], executions, strict=True)
    )

    assert (wrong.status_code, right.status_code) == (401, 303)
    assert "That is not the token." in wrong.text
    assert wrong.headers["WWW-Authenticate"].startswith("Bearer")
    assert "Set-Cookie" not in wrong.headers
    assert [execution.pause_s for execution in executions] == [PAUSE_S, 0]


@pytest.fixture
def sessions(tmp_path: Path) -> Sessions:
    return Sessions(tmp_path / "sessions", TOKEN)


BEGAN = 1_768_000_000.5


@pytest.mark.parametrize("cookie", ["", ".", "9999999999", "9999999999.00", "é.é", "../sessions"])
def test_a_session_cannot_be_made_up(sessions: Sessions, cookie: str) -> None:
    sessions.begin(BEGAN)

    assert not sessions.is_live(cookie, BEGAN)


def test_a_session_ends_with_its_time_its_token_and_its_logout(
    sessions: Sessions, tmp_path: Path
) -> None:
    cookie, other = sessions.begin(BEGAN), sessions.begin(BEGAN)
    changed = Sessions(tmp_path / "sessions", "another token of readers")

    assert sessions.is_live(cookie, BEGAN + SESSION_S - 1)
    assert not sessions.is_live(cookie, BEGAN + SESSION_S)
    assert not changed.is_live(cookie, BEGAN)
    assert not sessions.is_live("2" + cookie[1:], BEGAN)
    sessions.end(cookie)
    sessions.end(cookie)
    assert [sessions.is_live(one, BEGAN) for one in (cookie, other)] == [False, True]


def test_a_cookie_is_no_means_to_guess_the_token(sessions: Sessions, tmp_path: Path) -> None:
    first, second = sessions.begin(BEGAN), sessions.begin(BEGAN)

    [one, other] = (tmp_path / "sessions").iterdir()
    assert first != second
    assert not {first[11:], second[11:]} & {one.name[11:], other.name[11:]}
    assert (one.stat().st_mode & 0o777, one.parent.stat().st_mode & 0o777) == (0o600, 0o700)


def test_few_sessions_are_kept(sessions: Sessions, tmp_path: Path) -> None:
    old = sessions.begin(BEGAN)
    young = [sessions.begin(BEGAN + SESSION_S - 1 + number) for number in range(MAX_SESSIONS + 2)]

    assert len(list((tmp_path / "sessions").iterdir())) == MAX_SESSIONS
    assert not sessions.is_live(old, BEGAN)
    assert sessions.is_live(young[-1], BEGAN + SESSION_S)


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
        wait_until(lambda: client.request("GET", "/health/ready").status == 200)
        delivered = client.deliver()

        slow = b"".join(one.recv(20) for one in flood[:MAX_PAUSES])
        took = time.monotonic() - began
        for one in flood:
            one.close()
        lines = [line for line in server.log if line.get("path") == "/inbox/login"]

    assert (entered.status, shown.status, delivered.status) == (303, 200, 200)
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
