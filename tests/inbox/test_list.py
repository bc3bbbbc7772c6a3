"""GET /inbox: pages lead both ways, and are filtered as the API's."""

import html
import json
import re
from functools import partial
from typing import Any
from urllib.parse import urljoin

import pytest
from flask.testing import FlaskClient

from tests.builders import a_message, some_messages
from tests.conftest import Get, Logged, Store
from tests.inbox.reading import link, texts
from webhook_api.inbox import pages
from webhook_api.reading.receivers import list_receiver


@pytest.mark.parametrize(
    ("filters", "oldest"),
    [("", 0), ("q=TEXT", 0), ("q=%C3%A9", 0), ("from=%2B919876543210&q=tex", 0),
     ("since=2025-01-15T00:00:10Z", 10)],
)  # fmt: skip
def test_pages_lead_both_ways_and_leave_none_out(
    client: FlaskClient, store: Store, filters: str, oldest: int
) -> None:
    store(*(one | {"text": f"{one['message_id']} Text É"} for one in some_messages(130)))
    expected = [f"m{n:04} Text É" for n in reversed(range(oldest, 130))]

    seen, pages, url = [], [], f"/inbox?{filters}"
    while url:
        page = client.get(url).text
        seen += texts(page)
        pages.append(texts(page))
        url = link(page, "next")
    back = client.get(link(page, "prev")).text

    assert seen == expected
    assert [len(one) for one in pages] == [50, 50, 30 - oldest]
    assert texts(back) == expected[50:100]
    assert texts(client.get(link(back, "prev")).text) == expected[:50]


@pytest.mark.parametrize("filters", ["", "&q=TEXT", "&from=+919876543210&since=2025-01-15"])
def test_the_messages_to_one_receiver_are_found_page_by_page(
    client: FlaskClient, store: Store, monkeypatch: pytest.MonkeyPatch, filters: str
) -> None:
    # To each third of 300, but to none of 90 in between.
    monkeypatch.setattr(pages, "list_receiver", partial(list_receiver, most=80))
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
