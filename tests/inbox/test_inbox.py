"""GET /inbox and /, without a browser (that is test_inbox_page)."""

import html
import json
import re
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urljoin

import pytest
from flask import Flask
from flask.testing import FlaskClient

from tests.builders import SECRET, a_message, an_app, some_messages
from tests.conftest import Get, Logged, Store
from webhook_api import close_app
from webhook_api.config import Config
from webhook_api.errors import Unavailable
from webhook_api.inbox import listing
from webhook_api.inbox.glance import look
from webhook_api.inbox.marks import mark_hits
from webhook_api.inbox.session import (
    COOKIE,
    PAUSE_S,
    SESSION_S,
    WrongTokens,
    begin_session,
    is_session,
)
from webhook_api.intake.waiting import WAIT_KEY
from webhook_api.models import parse_message
from webhook_api.reading.receivers import list_receiver
from webhook_api.store.connections import Connection
from webhook_api.store.folding import fold
from webhook_api.store.messages import insert_messages

TOKEN = "a-token-for-readers"
NASTY = "<script>alert(1)</script> \"'><img src=x onerror=alert(1)> \u202ertl \x00 {{ 7*7 }}"


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[FlaskClient]:
    """A client of a service with a read token."""
    config = Config(
        webhook_secret=SECRET, read_token=TOKEN, database_path=tmp_path / "b.db", check_leases=True
    )
    app = an_app(config)
    yield app.test_client()
    close_app(app)


def texts(page: str) -> list[str]:
    found = re.findall(r'<p class="text[^"]*" dir="auto">(.*?)</p>', page, re.DOTALL)
    return [html.unescape(re.sub("<[^>]+>", "", text)) for text in found]


def link(page: str, rel: str) -> str:
    found = re.search(rf'rel="{rel}" href="([^"]+)"', page)
    return html.unescape(found[1]) if found else ""


@pytest.mark.parametrize("filters", ["", "q=TEXT", "q=%C3%A9", "from=%2B919876543210&q=tex"])
def test_pages_lead_both_ways_and_leave_none_out(
    client: FlaskClient, store: Store, filters: str
) -> None:
    store(*(one | {"text": f"{one['message_id']} Text É"} for one in some_messages(130)))
    expected = [f"m{n:04} Text É" for n in reversed(range(130))]

    seen, pages, url = [], [], f"/inbox?{filters}"
    while url:
        page = client.get(url).text
        seen += texts(page)
        pages.append(texts(page))
        url = link(page, "next")
    back = client.get(link(page, "prev")).text

    assert seen == expected
    assert [len(one) for one in pages] == [50, 50, 30]
    assert texts(back) == expected[50:100]
    assert texts(client.get(link(back, "prev")).text) == expected[:50]


@pytest.mark.parametrize("filters", ["", "&q=TEXT", "&from=+919876543210&since=2025-01-15"])
def test_the_messages_to_one_receiver_are_found_page_by_page(
    client: FlaskClient, store: Store, monkeypatch: pytest.MonkeyPatch, filters: str
) -> None:
    # To each third of 300, but to none of 90 in between.
    monkeypatch.setattr(listing, "list_receiver", partial(list_receiver, most=80))
    own = [n for n in range(300) if n % 3 == 0 and not 100 < n < 190]
    store(
        *(
            one | {"to": "+1" if n in own else "+2", "text": f"Text {n}"}
            for n, one in enumerate(some_messages(300))
        )
    )

    seen: list[str] = []
    back: list[str] = []
    looked, url = 0, f"/inbox?to=+1{filters}"
    while url:
        page = client.get(url)
        assert page.status_code == 200
        seen += texts(page.text)
        looked += page.text.count("messages were looked at")
        url, last = link(page.text, "next"), url
    url = link(client.get(last).text, "prev")
    while "newer=" in url:
        page = client.get(url)
        back = texts(page.text) + back
        url = link(page.text, "prev")

    expected = [f"Text {n}" for n in reversed(own)]
    assert seen == expected
    assert looked > 0
    assert back
    assert set(back) <= set(expected)
    assert texts(client.get("/inbox?to=+3").text) == []


def test_a_day_or_a_day_and_a_time_may_be_typed(client: FlaskClient, store: Store) -> None:
    store(*(one | {"text": one["message_id"]} for one in some_messages(130)))

    for typed in ("2025-01-15 00:02", "2025-01-15T00:02", "2025-01-15 00:02:00Z"):
        page = client.get("/inbox", query_string={"since": typed}).text
        assert len(texts(page)) == 10
        assert 'value="2025-01-15T00:02:00Z"' in page
    assert len(texts(client.get("/inbox?until=2025-01-16").text)) == 50
    assert texts(client.get("/inbox?until=2025-01-15").text) == []
    assert client.get("/inbox?since=2025-13-01").status_code == 422
    assert client.get("/messages?since=2025-01-15").status_code == 422


def test_since_and_until_bound_the_page_and_the_api(
    client: FlaskClient, store: Store, get: Get
) -> None:
    store(*(one | {"text": one["message_id"]} for one in some_messages(10)))
    window = {"since": "2025-01-15T00:00:03Z", "until": "2025-01-15T00:00:06Z"}

    page = client.get("/inbox", query_string=window).text
    listed = client.get("/messages", query_string=window | {"limit": "1"})
    second: Any = client.get(listed.headers["Link"][1:].split(">")[0]).json

    assert texts(page) == ["m0005", "m0004", "m0003"]
    assert get("/messages", **window)["total"] == 3
    assert get("/messages", q="m", **window)["total"] == 3
    assert second["data"][0]["message_id"] == "m0004"
    assert get("/messages", until=window["since"])["total"] == 3


def test_every_byte_is_escaped(client: FlaskClient, store: Store) -> None:
    store(a_message(text=NASTY, message_id=NASTY), a_message(message_id="e", text="😀" * 4096))

    for url in ("/inbox", "/inbox?q=%3Cscript", "/inbox/messages/1"):
        page = client.get(url)

        assert page.status_code == 200
        assert "<script>alert" not in page.text
        assert "<img src=x" not in page.text
        assert "unsafe-inline" not in page.headers["Content-Security-Policy"]
        assert page.headers["Referrer-Policy"] == "no-referrer"
        assert not re.search(r"<[^>]+ (style|on\w+)=", page.text)
    assert "😀" * 4096 in client.get("/inbox").text


@pytest.mark.parametrize(
    ("text", "q", "hits"),
    [
        ("Die STRASSE", "strasse", ["STRASSE"]),
        ("À L'ÉCOLE", "école", ["ÉCOLE"]),
        ("ПРИВЕТ привет", "Привет", ["ПРИВЕТ", "привет"]),
        ("İstanbul", "İ", ["İ"]),
        ("ẞ and ß", "ß", ["ẞ", "ß"]),
        ("ΣΊΣΥΦΟΣ σίσυφος", "σίσυφος", ["ΣΊΣΥΦΟΣ", "σίσυφος"]),
        ("100%_sure", "%_", ["%_"]),
        ("aaa", "aa", ["aa"]),
        ("a\x00b", "\x00", ["\x00"]),
        ("ﬁn FIN ﬁN", "ﬁn", ["ﬁn", "ﬁN"]),  # a ligature is a character of its own
        ("cafe\u0301 CAFE\u0301", "é", []),  # as the API: not composed
        ("cafe\u0301 CAFE\u0301", "e\u0301", ["e\u0301", "E\u0301"]),
        ("ΟΔΟΣ οδος", "οδοσ", ["ΟΔΟΣ", "οδος"]),  # a final sigma
        ("K k \u212a", "K", ["K", "k", "\u212a"]),  # the Kelvin sign
        ("nothing", None, []),
    ],
)
def test_the_hits_of_the_search_are_marked(text: str, q: str | None, hits: list[str]) -> None:
    parts = mark_hits(text, q)

    assert "".join(part.text for part in parts) == text
    assert [part.text for part in parts if part.is_hit] == hits
    assert bool(hits) == (q is not None and fold(q) in fold(text))


def test_a_text_of_hits_alone_is_not_marked_to_its_end() -> None:
    parts = mark_hits("ab" * 2048, "a")

    assert "".join(part.text for part in parts) == "ab" * 2048
    assert len(parts) < 500


def test_a_long_text_is_shown_from_before_its_first_hit(client: FlaskClient, store: Store) -> None:
    store(a_message(text="a" * 3000 + "\x00 needle " + "b" * 900))

    [found] = texts(client.get("/inbox?q=needle").text)
    [whole] = texts(client.get("/inbox").text)

    assert found == "… " + "a" * 98 + "\u2400 needle " + "b" * 900
    assert whole == "a" * 3000 + "\u2400 needle " + "b" * 900
    assert "Read all of it" in client.get("/inbox").text


def test_a_message_shows_all_that_is_stored(client: FlaskClient, store: Store) -> None:
    store(a_message(text="Grüße"))

    page = client.get("/inbox/messages/1").text

    shown = re.search(r'<pre id="json"[^>]*>(.*?)</pre>', page, re.DOTALL)
    assert shown
    assert json.loads(html.unescape(shown[1])) == a_message(text="Grüße")
    assert "Arrived" in page
    assert client.get("/inbox/messages/2").status_code == 404
    assert client.get(f"/inbox/messages/{2**70}").status_code == 404


def test_new_messages_are_counted_as_the_page_filters(client: FlaskClient, store: Store) -> None:
    store(*some_messages(7), a_message(message_id="other", text="Ééé"))

    def new(**query: object) -> object:
        return client.get("/inbox/new", query_string=query).json

    assert new(above=0) == {"new": 8}
    assert new(above=0, q="éÉ") == {"new": 1}
    assert new(above=0, to="+14155550100", since="2025-01-15") == {"new": 8}
    assert new(above=0, to="+1") == {"new": 0}
    assert new(above=8) == {"new": 0}
    assert client.get("/inbox/new?above=x").status_code == 422


def test_failures_are_pages(app: Flask, client: FlaskClient, config: Config) -> None:
    class Stopped:
        def read(self, *_asked: object) -> None:
            raise Unavailable("other reads took longer than 1 s")

    def fail(*_asked: object) -> None:
        raise OSError("a secret of ours")

    wrong = client.get("/inbox?since=yesterday&q=x")
    unknown = [client.get(url) for url in ("/inbox/", "/inbox/messages/9", "/inbox/messages/x")]
    no_post = [client.post("/inbox"), client.post("/inbox/messages/1")]
    reading = app.extensions["reading"]
    app.extensions["reading"] = Stopped()
    past_turn = client.get("/inbox?q=x")
    app.extensions["reading"].read = fail
    broken = client.get("/inbox?q=x")
    app.extensions["reading"] = reading
    config.database_path.write_bytes(b"no database" * 1000)
    no_database = client.get("/inbox")
    told = client.get("/inbox/new?above=1")

    pages = [wrong, *unknown, *no_post, past_turn, broken, no_database]
    assert [one.status_code for one in pages] == [422, 404, 404, 404, 405, 405, 503, 500, 503]
    for page in pages:
        assert page.mimetype == "text/html"
        assert 'href="/inbox"' in page.text
        assert "unsafe" not in page.headers["Content-Security-Policy"]
        assert page.headers["Content-Length"] == str(len(page.data))
    assert "since: " in wrong.text
    assert "other reads took longer than 1 s" in past_turn.text
    assert "secret" not in broken.text
    assert past_turn.headers["Retry-After"] == no_database.headers["Retry-After"] == "2"
    assert all(one.headers["Allow"] for one in no_post)
    assert client.post("/inbox/new").mimetype == "application/json"
    assert (told.status_code, told.mimetype) == (503, "application/json")


def test_the_glance_counts_hours_and_days(writer: Connection) -> None:
    now = 1_736_935_200  # 2025-01-15T10:00:00Z
    stamps = [
        "2025-01-15T10:00:00Z", "2025-01-15T09:59:59.9Z", "2025-01-15T00:00:00Z",
        "2025-01-14T23:59:59Z", "2025-01-14T09:00:00Z", "2024-12-17T00:00:00Z",
        "2024-12-16T23:59:59Z", "2025-01-15T10:00:01Z", "2025-02-01T00:00:00Z",
    ]  # fmt: skip
    insert_messages(writer, [parse_message(a_message(message_id=ts, ts=ts)) for ts in stamps])

    glance = look(writer, now)

    assert glance.total == len(stamps)
    assert (glance.last_day, glance.day_before) == (4, 1)
    hours = {bar.start: bar.messages for bar in glance.hours if bar.messages}
    assert hours == {now: 2, now - 3600: 1, now - 36000: 1, now - 39600: 1}
    assert [bar.messages for bar in glance.days] == [1, *[0] * 27, 2, 4]


def test_the_glance_costs_little_more_with_many_messages_in_the_last_days(
    writer: Connection,
) -> None:
    now = 1_736_935_200

    def steps_of(total: int) -> int:
        steps = 0

        def count() -> int:
            nonlocal steps
            steps += 1
            return 0

        times = [
            time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now - n * 30 * 86400 // total))
            for n in range(total)
        ]
        insert_messages(writer, [parse_message(a_message(message_id=ts, ts=ts)) for ts in times])
        writer.set_progress_handler(count, 1)
        look(writer, now)
        writer.set_progress_handler(None, 1)
        return steps

    # With 100, most hours have none.
    of_few = steps_of(100)

    assert steps_of(5000) < 2 * of_few


def test_every_link_of_the_list_leads_to_a_page(client: FlaskClient, store: Store) -> None:
    store(*some_messages(60, text="long " * 200))
    page = client.get("/inbox").text
    links = {urljoin("/inbox", html.unescape(one)) for one in re.findall(r'href="([^"]+)"', page)}

    assert len(links) > 55
    assert {"/inbox?from=%2B919876543210", "/inbox?to=%2B14155550100", "/inbox/messages/60"} < links
    for link_ in links:
        with client.get(link_) as reply:
            assert reply.status_code == 200, link_


def test_an_empty_inbox_says_what_to_do(client: FlaskClient) -> None:
    assert "flask --app wsgi send" in client.get("/inbox").text
    assert "READ_TOKEN" in client.get("/inbox").text


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
    pauses: list[float] = []
    wait = SimpleNamespace(until_ended=pauses.append)
    environ = {WAIT_KEY: lambda: wait}

    wrong = [locked.post("/inbox/login", data={"token": "x"}, environ_base=environ) for _ in "ab"]
    right = locked.post("/inbox/login", data={"token": TOKEN}, environ_base=environ)

    assert [one.status_code for one in wrong] == [401, 401]
    assert "That is not the token." in wrong[0].text
    assert wrong[0].headers["WWW-Authenticate"].startswith("Bearer")
    assert "Set-Cookie" not in wrong[1].headers
    assert pauses == [PAUSE_S, PAUSE_S]
    assert right.status_code == 303


def test_so_many_wrong_tokens_wait_at_most() -> None:
    wrong_tokens = WrongTokens(1.0, most=2)
    waiting: list[float] = []

    def sleep(seconds: float) -> None:
        waiting.append(seconds)
        wrong_tokens.pause(sleep)  # another one that comes meanwhile

    wrong_tokens.pause(sleep)
    assert len(waiting) == 2
    wrong_tokens.pause(sleep)
    assert len(waiting) == 4


@pytest.mark.parametrize("cookie", ["", ".", "99999999999", "99999999999.00", "é.é", "1.2.3"])
def test_a_session_cannot_be_made_up(locked: FlaskClient, cookie: str) -> None:
    assert not is_session(TOKEN, cookie, 0)


def test_a_session_ends_with_its_time_and_with_its_token() -> None:
    cookie = begin_session(TOKEN, 1000)

    assert is_session(TOKEN, cookie, 1000 + SESSION_S - 1)
    assert not is_session(TOKEN, cookie, 1000 + SESSION_S)
    assert not is_session("another", cookie, 1000)
    assert not is_session(TOKEN, "9" + cookie, 1000)
    assert COOKIE


def test_no_number_is_in_a_log_line(client: FlaskClient, logged: Logged) -> None:
    client.get("/inbox?from=%2B919876543210&q=secret")

    assert [line["path"] for line in logged()] == ["/inbox"]
    assert not re.search("919876543210|secret", json.dumps(logged()))


def test_the_root_leads_browsers_to_the_inbox_and_lists_routes(client: FlaskClient) -> None:
    browser = client.get("/", headers={"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"})

    assert (browser.status_code, browser.headers["Location"]) == (303, "/inbox")
    for accept in ("*/*", "application/json"):
        routes: Any = client.get("/", headers={"Accept": accept}).json
        assert routes["routes"]["/webhook"] == ["POST"]
