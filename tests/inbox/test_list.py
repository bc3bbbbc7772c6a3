"""The inbox: pages lead both ways, show all, escape every byte, and say what failed."""

import html
import json
import re
import time
from dataclasses import replace
from typing import Any
from urllib.parse import urljoin

import pytest

from tests.builders import a_message, some_messages
from tests.conftest import Api
from tests.store.files import steps_of
from webhook_api.errors import Unavailable
from webhook_api.inbox.marks import mark_hits
from webhook_api.inbox.overview import count_overview
from webhook_api.models import parse_message
from webhook_api.services import register_services, services_of
from webhook_api.store.folding import fold
from webhook_api.store.messages import insert_messages, remove_messages
from webhook_api.store.positions import create_consumer


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


def texts(page: str) -> list[str]:
    found = re.findall(r'<p class="text[^"]*" dir="auto">(.*?)</p>', page, re.DOTALL)
    return [html.unescape(re.sub("<[^>]+>", "", text)) for text in found]


def link(page: str, rel: str) -> str:
    found = re.search(rf'rel="{rel}" href="([^"]+)"', page)
    return html.unescape(found[1]) if found else ""


NASTY = "<script>alert(1)</script> \"'><img src=x onerror=alert(1)> \u202ertl \x00 {{ 7*7 }}"


def test_every_byte_is_escaped(api: Api) -> None:
    api.store(a_message(text=NASTY, message_id=NASTY), a_message(message_id="e", text="😀" * 4096))

    for url in ("/inbox", "/inbox?q=%3Cscript", "/inbox/messages/1"):
        page = api.client.get(url)

        assert page.status_code == 200
        assert "<script>alert" not in page.text
        assert "<img src=x" not in page.text
        assert "unsafe-inline" not in page.headers["Content-Security-Policy"]
        assert page.headers["Referrer-Policy"] == "no-referrer"
        assert not re.search(r"<[^>]+ (style|on\w+)=", page.text)
    assert "😀" * 4096 in api.client.get("/inbox").text


def test_a_message_shows_all_that_is_stored(api: Api) -> None:
    api.store(a_message(text="Grüße"))

    page = api.client.get("/inbox/messages/1").text

    shown = re.search(r'<pre id="json"[^>]*>(.*?)</pre>', page, re.DOTALL)
    assert shown
    assert json.loads(html.unescape(shown[1])) == a_message(text="Grüße")
    assert "Arrived" in page
    assert api.client.get("/inbox/messages/2").status_code == 404
    assert api.client.get(f"/inbox/messages/{2**70}").status_code == 404
    assert api.client.get("/inbox/messages/١").status_code == 404  # a digit, but not of ASCII


@pytest.mark.parametrize("path", ["/messages", "/inbox", "/inbox/messages/1"])
def test_a_host_that_no_url_can_have_is_400_in_json(api: Api, path: str) -> None:
    reply = api.client.get(path, headers={"Host": "x" * 64})

    assert (reply.status_code, reply.mimetype) == (400, "application/json")


def test_failures_are_pages(api: Api) -> None:
    class Stopped:
        def reader(self, *_asked: object) -> None:
            raise Unavailable("other reads took longer than 1 s")

    def fail(*_asked: object) -> None:
        raise OSError("a secret of ours")

    wrong = api.client.get("/inbox?since=yesterday&q=x")
    unknown = [
        api.client.get(url) for url in ("/inbox//", "/inbox/messages/9", "/inbox/messages/x")
    ]
    no_post = [api.client.post("/inbox"), api.client.post("/inbox/messages/1")]
    services = services_of(api.app)
    stopped = Stopped()
    register_services(api.app, replace(services, reads=stopped))  # type: ignore[arg-type]
    past_turn = api.client.get("/inbox?q=x")
    stopped.reader = fail  # type: ignore[method-assign]
    broken = api.client.get("/inbox?q=x")
    register_services(api.app, services)
    api.path.write_bytes(b"no database" * 1000)
    no_database = api.client.get("/inbox")
    told = api.client.get("/inbox/new?above=1")

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
    assert api.client.post("/inbox/new").mimetype == "application/json"
    assert (told.status_code, told.mimetype) == (503, "application/json")


@pytest.mark.parametrize(
    ("text", "q", "hits"),
    [
        ("Die STRASSE", "strasse", ["STRASSE"]),
        ("À L'ÉCOLE", "école", ["ÉCOLE"]),
        ("ПРИВЕТ привет", "Привет", ["ПРИВЕТ", "привет"]),
        ("İstanbul i\u0307", "İ", ["İ", "i\u0307"]),
        (
            "ISTANBUL İSTANBUL I\u0307stanbul",
            "istanbul",
            ["ISTANBUL", "İSTANBUL", "I\u0307stanbul"],
        ),
        ("ẞ and ß", "ß", ["ẞ", "ß"]),
        ("ΣΊΣΥΦΟΣ σίσυφος", "σίσυφος", ["ΣΊΣΥΦΟΣ", "σίσυφος"]),
        ("100%_sure", "%_", ["%_"]),
        ("aaa", "aa", ["aa"]),
        ("a\x00b", "\x00", ["\x00"]),
        ("ﬁn FIN ﬁN", "ﬁn", ["ﬁn", "ﬁN"]),  # a ligature is a character of its own
        ("cafe\u0301 CAFÉ", "é", ["e\u0301", "É"]),
        ("cafe\u0301 CAFÉ tea", "afe\u0301 ", ["afe\u0301 ", "AFÉ "]),
        ("\u1112\u1161\u11ab\u1100\u1173\u11af 한글", "글", ["\u1100\u1173\u11af", "글"]),
        ("o\u0323\u0302 ộ Ộ", "ộ", ["o\u0323\u0302", "ộ", "Ộ"]),
        ("cafe\u0301", "e", []),  # as in é
        ("J\u030c ǰ", "ǰ", ["J\u030c", "ǰ"]),
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


def test_a_long_text_is_shown_from_before_its_first_hit(api: Api) -> None:
    api.store(a_message(text="a" * 3000 + "\x00 needle " + "b" * 900))

    [found] = texts(api.client.get("/inbox?q=needle").text)
    [whole] = texts(api.client.get("/inbox").text)

    assert found == "… " + "a" * 98 + "\u2400 needle " + "b" * 900
    assert whole == "a" * 3000 + "\u2400 needle " + "b" * 900
    assert "Read all of it" in api.client.get("/inbox").text


def test_the_page_shows_how_far_each_is_behind(api: Api) -> None:
    assert "There is none." in api.client.get("/inbox/consumers").text
    api.store(*some_messages(1500))
    create_consumer(api.writer, "billing", "start")
    create_consumer(api.writer, "quick", "now")
    remove_messages(api.writer, [1, 2])

    page = api.client.get("/inbox/consumers").text

    assert "<h2>billing</h2>" in page
    assert "<dd>1,498 messages</dd>" in page
    assert "<dd>2 messages, removed" in page
    assert page.count("Oldest unread") == 1
    assert 'href="/inbox/consumers"' in api.client.get("/inbox").text


def test_the_overview_counts_hours_and_days(api: Api) -> None:
    now = 1_736_935_200  # 2025-01-15T10:00:00Z
    stamps = [
        "2025-01-15T10:00:00Z", "2025-01-15T09:59:59.9Z", "2025-01-15T00:00:00Z",
        "2025-01-14T23:59:59Z", "2025-01-14T09:00:00Z", "2024-12-17T00:00:00Z",
        "2024-12-16T23:59:59Z", "2025-01-15T10:00:01Z", "2025-02-01T00:00:00Z",
    ]  # fmt: skip
    insert_messages(api.writer, [parse_message(a_message(message_id=ts, ts=ts)) for ts in stamps])

    overview = count_overview(api.writer, now)

    assert overview.total == len(stamps)
    assert (overview.last_day, overview.day_before) == (4, 1)
    hours = {bar.start: bar.messages for bar in overview.hours if bar.messages}
    assert hours == {now: 2, now - 3600: 1, now - 36000: 1, now - 39600: 1}
    assert [bar.messages for bar in overview.days] == [1, *[0] * 27, 2, 4]


def test_the_overview_costs_little_more_with_many_messages_in_the_last_days(api: Api) -> None:
    now = 1_736_935_200

    def cost_of(total: int) -> int:
        times = [
            time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now - n * 30 * 86400 // total))
            for n in range(total)
        ]
        insert_messages(
            api.writer, [parse_message(a_message(message_id=ts, ts=ts)) for ts in times]
        )
        return steps_of(api.writer, lambda: count_overview(api.writer, now))

    # With 100, most hours have none.
    of_few = cost_of(100)

    assert cost_of(5000) < 2 * of_few
