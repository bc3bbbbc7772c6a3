"""Logins and sessions, if reads need a token."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from tests.builders import SECRET, an_app
from webhook_api import close_app
from webhook_api.config import Config
from webhook_api.execution import EXECUTION_KEY, Execution
from webhook_api.inbox.session import PAUSE_S, SESSION_S, begin_session, is_session

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


BEGUN = begin_session(TOKEN, 1000)
LAST = 1000 + SESSION_S - 1


@pytest.mark.parametrize(
    ("token", "cookie", "now", "holds"),
    [
        (TOKEN, BEGUN, LAST, True), (TOKEN, BEGUN, LAST + 1, False),
        ("another", BEGUN, 1000, False),
        *((TOKEN, made_up, 0, False) for made_up in (
            "9" + BEGUN, "", ".", "99999999999", "99999999999.00", "é.é", "1.2.3",
        )),
    ],
)  # fmt: skip
def test_a_session_ends_with_its_time_and_its_token_and_cannot_be_made_up(
    token: str, cookie: str, now: int, holds: bool
) -> None:
    assert is_session(token, cookie, now) is holds
