"""GET /messages?after=: messages in the order of their arrival, each exactly once."""

import json
from functools import partial
from typing import Any

import pytest

from tests.builders import a_message, some_messages
from tests.conftest import Api
from tests.routes.pages import following
from tests.store.files import steps_of
from tests.store.files import store as store_there
from webhook_api.models import FeedQuery
from webhook_api.reading import feed
from webhook_api.reading.feed import NewMessages, read_feed
from webhook_api.store.database import Database
from webhook_api.store.messages import of_number, remove_messages

NDJSON = {"Accept": "application/x-ndjson"}


def ids(page: Any) -> list[str]:
    return [message["message_id"] for message in page["data"]]


def test_a_late_message_comes_where_it_arrived(api: Api) -> None:
    api.store(a_message(message_id="b", ts="2025-01-15T10:00:00Z"))
    first = api.get("/messages", after="start")
    api.store(a_message(message_id="a", ts="2025-01-01T10:00:00Z"))

    second = api.get("/messages", after=first["position"])

    assert (ids(first), ids(second)) == (["b"], ["a"])
    assert api.get("/messages", after=second["position"]) == second | {"data": []}
    assert api.get("/messages", after="now")["position"] == second["position"]


def test_a_message_has_all_that_is_kept_of_it(api: Api) -> None:
    api.post(a_message())

    response = api.client.get("/messages?after=start")

    (message,) = response.json["data"]  # type: ignore[index]
    position = message.pop("position")
    assert message == api.client.get("/messages/m1").json
    assert response.json == {"data": [message | {"position": position}]} | {
        "position": position, "more": False,
    }  # fmt: skip
    assert response.headers["Cache-Control"] == "no-store"
    assert "ETag" not in response.headers


def test_links_lead_through_all_pages(api: Api) -> None:
    api.store(*some_messages(5))
    url, seen = "/messages?after=start&limit=2&to=%2B14155550100", []
    for more in (True, True, False):
        response = api.client.get(url)
        page: Any = response.json
        seen += ids(page)
        assert page["more"] is more
        url = following(response)

    assert seen == [f"m{n:04}" for n in range(5)]
    assert "limit=2" in url
    assert "to=%2B14155550100" in url


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({"from_": "+1"}, ["x"]),
        ({"to": "+2"}, ["x"]),
        ({"to": " 2"}, ["x"]),
        ({"provider": "webhook"}, ["a", "x", "b"]),
        ({"provider": "meta"}, []),
        ({"from_": "+1", "to": "+3"}, []),
    ],
)
def test_filters_leave_out_what_does_not_match_and_move_on(
    api: Api, filters: dict[str, str], found: list[str]
) -> None:
    api.store(a_message(message_id="a"), a_message(message_id="x", sender="+1", to="+2"))
    api.store(a_message(message_id="b"))

    page = api.get("/messages", after="start", **filters)

    assert ids(page) == found
    assert page["position"] == api.get("/messages", after="now")["position"]


def test_a_page_looks_at_a_bounded_number_of_rows(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "MAX_LOOKED_AT", 3)
    api.store(*some_messages(7), a_message(message_id="x", sender="+1"))
    position, pages = "start", []
    for _ in range(3):
        pages.append(api.get("/messages", after=position, from_="+1"))
        position = pages[-1]["position"]

    assert [page["position"].split(".")[0] for page in pages] == ["3", "6", "8"]
    assert [(ids(page), page["more"]) for page in pages] == [([], True), ([], True), (["x"], False)]


@pytest.mark.parametrize(
    "query",
    [
        "after=7", "after=-1", "after=7.abc", "after=07.aaaaaaaa", "after=now.aaaaaaaa",
        f"after={2**63}.aaaaaaaa", "after=%D9%A1.aaaaaaaa", "after=1.AAAAAAAA", "after=Start",
        "after=start&limit=0", "after=start&limit=101", "after=start&wait=26",
        "after=start&wait=-1", "after=start&wait=1.5",
        *(
            f"after=start&{name}=1"
            for name in ("offset", "cursor", "since", "until", "q", "message_id")
        ),
        "after=start&consumer=a", "wait=1",
    ],
)  # fmt: skip
def test_what_cannot_be_asked_is_422(api: Api, query: str) -> None:
    response = api.client.get("/messages?" + query)

    assert response.status_code == 422
    assert response.json["detail"][0]["loc"][0] == "query"  # type: ignore[index]


def test_ndjson_has_a_position_on_each_line(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "_STREAMED", 3)
    api.store(*some_messages(8, text="a\u2028\n"))

    response = api.client.get("/messages?after=start&limit=2", headers=NDJSON)
    lines = [json.loads(line) for line in response.data.splitlines()]
    rest = api.client.get(f"/messages?after={lines[4]['position']}", headers=NDJSON)

    assert lines == api.get("/messages", after="start")["data"]
    assert [json.loads(line) for line in rest.data.splitlines()] == lines[5:]
    refused = api.client.get("/messages?after=8.aaaaaaaa", headers=NDJSON)
    assert (refused.status_code, refused.mimetype) == (410, "application/json")


def test_positions_that_are_lost_say_why(api: Api) -> None:
    empty = api.get("/messages", after="start")["position"]
    api.store(*some_messages(6))
    positions = [message["position"] for message in api.get("/messages", after="start")["data"]]
    wrong = ["3.aaaaaaaa", "99.aaaaaaaa", positions[0].replace("1.", "2.")]

    for position in wrong:
        response = api.client.get(f"/messages?after={position}")
        assert (response.status_code, response.json) == (410, {
            "detail": "the database was turned back to before this position",
            "code": "diverged", "start": empty, "end": positions[-1],
        })  # fmt: skip

    remove_messages(api.writer, [1, 2, 3])
    for position in (empty, positions[0], positions[1]):
        response = api.client.get(f"/messages?after={position}")
        assert (response.status_code, response.json) == (410, {
            "detail": "messages after this position were removed",
            "code": "pruned", "start": positions[2],
        })  # fmt: skip
    for position in ("start", positions[2]):
        assert ids(api.get("/messages", after=position)) == ["m0003", "m0004", "m0005"]


def test_a_position_outlives_its_message_when_that_is_forgotten(api: Api) -> None:
    api.store(*(a_message(message_id=name, sender=f"+{name}") for name in "1234"))
    positions = [message["position"] for message in api.get("/messages", after="start")["data"]]

    remove_messages(api.writer, [1, 2, 4], of_number("+2"))
    remove_messages(api.writer, [1, 2, 4], of_number("+4"))

    assert ids(api.get("/messages", after=positions[1])) == ["3"]
    assert ids(api.get("/messages", after=positions[3])) == []
    api.store(a_message(message_id="5"))
    assert ids(api.get("/messages", after=positions[3])) == ["5"]
    wrong = api.client.get(f"/messages?after=2.{positions[3].split('.')[1]}")
    assert wrong.json["code"] == "diverged"  # type: ignore[index]
    remove_messages(api.writer, [1, 2, 3])
    assert api.client.get(f"/messages?after={positions[1]}").json["code"] == "pruned"  # type: ignore[index]
    assert ids(api.get("/messages", after=positions[3])) == ["5"]


def test_a_large_page_ends_early(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "_MAX_CHARS", 25)
    api.store(*some_messages(10, text="x" * 10))

    page = api.get("/messages", after="start")

    assert (len(page["data"]), page["more"]) == (3, True)
    assert ids(api.get("/messages", after=page["position"]))[0] == "m0003"


def test_a_page_costs_the_same_with_many_messages(api: Api) -> None:
    costs = []
    for start in (0, 2000):
        for part in range(start, start + 200 if not start else 4000, 200):
            api.store(*(a_message(message_id=f"m{part + n}", sender=f"+{n}") for n in range(200)))
        costs.append(
            [
                steps_of(api.writer, partial(read_feed, api.writer, FeedQuery(), after, 50))
                for after in ("start", "now")
            ]
        )

    few, many = costs
    assert max(many[0] / few[0], many[1] / few[1]) < 1.1, costs


def test_ndjson_that_retention_overtakes_ends_after_a_whole_line(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "_STREAMED", 3)
    api.store(*some_messages(9))
    response = api.client.get("/messages?after=start", headers=NDJSON, buffered=False)
    blocks: Any = iter(response.response)
    sent = [next(blocks)]
    while b"\n" not in sent[-1]:
        sent.append(next(blocks))

    remove_messages(api.writer, [1, 2, 3, 4, 5])
    lines = [json.loads(line) for line in b"".join([*sent, *blocks]).splitlines()]
    asked_again = api.client.get(f"/messages?after={lines[-1]['position']}", headers=NDJSON)

    assert [line["message_id"] for line in lines] == ["m0000", "m0001", "m0002"]
    assert (asked_again.status_code, asked_again.json["code"]) == (410, "pruned")  # type: ignore[index]
    first, *_ = api.logged()
    assert (first["level"], first["status"], first["stream"]) == ("INFO", 200, "overtaken")


@pytest.mark.parametrize(
    ("filters", "come"),
    [
        ({}, [True, True]),
        ({"from": "+1"}, [False, True]),
        ({"from": "+1", "to": "+9"}, [False, False]),
        ({"provider": "webhook"}, [True, True]),
    ],
)
def test_who_waits_is_told_of_the_new_messages_that_match(
    database: Database, filters: dict[str, str], come: list[bool]
) -> None:
    store_there(database.path, "before", sender="+1")
    with database.reader() as db:
        after = read_feed(db, FeedQuery(), "now", 1).position
    new = NewMessages(database, FeedQuery.model_validate(filters), after)
    told = []
    for name, sender in (("a", "+5"), ("b", "+1")):
        store_there(database.path, name, sender=sender, to="+2")
        told.append(new.have_come())

    assert told == come
    assert new.have_come()  # something has changed, and it is no newer message
