"""GET /inbox: pages lead both ways, and are filtered as the API's."""

import html
import json
import re
from typing import Any
from urllib.parse import urljoin

import pytest

from tests.builders import a_message, some_messages
from tests.conftest import Api
from tests.inbox.reading import link, texts


@pytest.mark.parametrize(
    "filters", ["", "q=TEXT", "q=%C3%A9", "from=%2B919876543210&q=tex", "until=2100-01-01"]
)
def test_messages_of_the_far_future_hide_no_new_one(api: Api, filters: str) -> None:
    far = "9999-12-31T23:59:59Z"
    api.store(
        *(one | {"text": f"Text é far {one['message_id']}"} for one in some_messages(60, ts=far))
    )
    api.store(a_message(message_id="new", ts="2025-01-15T10:00:00Z", text="Text é new"))
    api.store(a_message(message_id="old", ts="2024-01-15T10:00:00Z", text="Text é old"))
    near = "until" in filters

    page = api.client.get(f"/inbox?{filters}").text
    by_time = api.client.get(f"/inbox?{filters}&order=ts").text

    assert texts(page)[:2] == ["Text é old", "Text é new"]
    assert texts(page)[2:3] == ([] if near else ["Text é far m0059"])
    assert texts(by_time)[:1] == ["Text é new" if near else "Text é far m0059"]
    if not near:
        assert texts(api.client.get(link(by_time, "next")).text)[-2:] == [
            "Text é new",
            "Text é old",
        ]
        assert texts(api.client.get(link(page, "next")).text)[-1] == "Text é far m0000"
        back = api.client.get(link(api.client.get(link(by_time, "next")).text, "prev"))
        assert texts(back.text) == texts(by_time)


def test_an_order_that_there_is_not_is_refused(api: Api) -> None:
    assert api.client.get("/inbox?order=text").status_code == 422
    assert api.client.get("/inbox?order=").status_code == 200


@pytest.mark.parametrize(
    ("filters", "oldest"),
    [("", 0), ("q=TEXT", 0), ("q=%C3%A9", 0), ("from=%2B919876543210&q=tex", 0),
     ("since=2025-01-15T00:00:10Z", 10)],
)  # fmt: skip
def test_pages_lead_both_ways_and_leave_none_out(api: Api, filters: str, oldest: int) -> None:
    api.store(*(one | {"text": f"{one['message_id']} Text É"} for one in some_messages(130)))
    expected = [f"m{n:04} Text É" for n in reversed(range(oldest, 130))]

    seen, pages, url = [], [], f"/inbox?{filters}"
    while url:
        page = api.client.get(url).text
        seen += texts(page)
        pages.append(texts(page))
        url = link(page, "next")
    back = api.client.get(link(page, "prev")).text

    assert seen == expected
    assert [len(one) for one in pages] == [50, 50, 30 - oldest]
    assert texts(back) == expected[50:100]
    assert texts(api.client.get(link(back, "prev")).text) == expected[:50]


@pytest.mark.parametrize("filters", ["", "&q=TEXT", "&from=+919876543210&since=2025-01-15"])
def test_the_messages_to_one_receiver_are_counted_and_found_page_by_page(
    api: Api, filters: str
) -> None:
    # To each third of 300, but to none of 90 in between.
    own = [n for n in range(300) if n % 3 == 0 and not 100 < n < 190]
    api.store(
        *(
            one | {"to": "+1" if n in own else "+2", "text": f"Text {n}"}
            for n, one in enumerate(some_messages(300))
        )
    )

    seen: list[str] = []
    back: list[str] = []
    url = f"/inbox?to=+1{filters}"
    while url:
        page = api.client.get(url)
        assert page.status_code == 200
        seen += texts(page.text)
        assert f"<strong>{len(own)}</strong> messages" in page.text
        url, last = link(page.text, "next"), url
    url = link(api.client.get(last).text, "prev")
    while "newer=" in url:
        page = api.client.get(url)
        back = texts(page.text) + back
        url = link(page.text, "prev")

    expected = [f"Text {n}" for n in reversed(own)]
    assert seen == expected
    assert back == expected[:-20]
    assert texts(api.client.get("/inbox?to=+3").text) == []


def test_a_day_or_a_day_and_a_time_may_be_typed(api: Api) -> None:
    api.store(*(one | {"text": one["message_id"]} for one in some_messages(130)))

    for typed in ("2025-01-15 00:02", "2025-01-15T00:02", "2025-01-15 00:02:00Z"):
        page = api.client.get("/inbox", query_string={"since": typed}).text
        assert len(texts(page)) == 10
        assert 'value="2025-01-15T00:02:00Z"' in page
    assert len(texts(api.client.get("/inbox?until=2025-01-16").text)) == 50
    assert texts(api.client.get("/inbox?until=2025-01-15").text) == []
    assert api.client.get("/inbox?since=2025-13-01").status_code == 422


def test_since_and_until_bound_the_page_and_the_api(api: Api) -> None:
    api.store(*(one | {"text": one["message_id"]} for one in some_messages(10)))
    window = {"since": "2025-01-15T00:00:03Z", "until": "2025-01-15T00:00:06Z"}

    page = api.client.get("/inbox", query_string=window).text
    listed = api.client.get("/messages", query_string=window | {"limit": "1"})
    second: Any = api.client.get(listed.headers["Link"][1:].split(">")[0]).json

    assert texts(page) == ["m0005", "m0004", "m0003"]
    assert api.get("/messages", **window)["total"] == 3
    assert api.get("/messages", q="m", **window)["total"] == 3
    assert second["data"][0]["message_id"] == "m0004"
    assert api.get("/messages", until=window["since"])["total"] == 3


def test_new_messages_are_counted_as_the_page_filters(api: Api) -> None:
    api.store(*some_messages(7), a_message(message_id="other", text="Ééé"))

    def new(**query: object) -> object:
        return api.client.get("/inbox/new", query_string=query).json

    assert new(above=0) == {"new": 8}
    assert new(above=0, q="éÉ") == {"new": 1}
    assert new(above=0, to="+14155550100", since="2025-01-15") == {"new": 8}
    assert new(above=0, to="+1") == {"new": 0}
    assert new(above=8) == {"new": 0}
    assert api.client.get("/inbox/new?above=x").status_code == 422


def test_every_link_of_the_list_leads_to_a_page(api: Api) -> None:
    api.store(*some_messages(60, text="long " * 200))
    page = api.client.get("/inbox").text
    links = {urljoin("/inbox", html.unescape(one)) for one in re.findall(r'href="([^"]+)"', page)}

    assert len(links) > 55
    assert {"/inbox?from=%2B919876543210", "/inbox?to=%2B14155550100", "/inbox/messages/60"} < links
    for link_ in links:
        with api.client.get(link_) as reply:
            assert reply.status_code == 200, link_


def test_an_empty_inbox_says_what_to_do(api: Api) -> None:
    assert "flask --app wsgi send" in api.client.get("/inbox").text
    assert "READ_TOKEN" in api.client.get("/inbox").text


def test_no_number_is_in_a_log_line(api: Api) -> None:
    api.client.get("/inbox?from=%2B919876543210&q=secret")

    assert [line["path"] for line in api.logged()] == ["/inbox"]
    assert not re.search("919876543210|secret", json.dumps(api.logged()))


def test_the_root_leads_browsers_to_the_inbox_and_lists_routes(api: Api) -> None:
    browser = api.client.get("/", headers={"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"})

    assert (browser.status_code, browser.headers["Location"]) == (303, "/inbox")
    for accept in ("*/*", "application/json"):
        routes: Any = api.client.get("/", headers={"Accept": accept}).json
        assert routes["routes"]["/webhook"] == ["POST"]
