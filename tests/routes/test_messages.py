"""GET /messages: pages in the order of instants, exact totals, filters."""

import random
from typing import Any

import pytest

from tests.builders import a_message, some_messages
from tests.conftest import Api
from tests.routes.pages import following, names


def test_an_empty_store_is_an_empty_page(api: Api) -> None:
    assert api.get("/messages") == {"data": [], "total": 0, "limit": 50, "offset": 0}


def test_a_message_comes_back_as_it_was_delivered(api: Api) -> None:
    api.post(a_message(text=None))

    response = api.client.get("/messages")

    assert response.content_type == "application/json"
    assert response.json == {"data": [a_message(text=None)], "total": 1, "limit": 50, "offset": 0}
    # In the order of the specification's example.
    assert list(response.json) == ["data", "total", "limit", "offset"]
    assert list(response.json["data"][0]) == ["message_id", "from", "to", "ts", "text"]


def test_the_first_page_has_fifty(api: Api) -> None:
    api.store(*some_messages(60))

    reply = api.get("/messages")

    assert (len(reply["data"]), reply["total"]) == (50, 60)
    assert names(reply) == [f"m{n:04}" for n in range(50)]


@pytest.mark.parametrize(
    ("limit", "offset", "page"),
    [
        (1, 0, range(1)),
        (2, 1, range(1, 3)),
        (100, 0, range(8)),
        (3, 6, range(6, 8)),
        (5, 8, []),
        (5, 9, []),
    ],
)
def test_limit_and_offset_cut_the_page_and_come_back(
    api: Api, limit: int, offset: int, page: Any
) -> None:
    api.store(*some_messages(8))

    reply = api.get("/messages", limit=limit, offset=offset)

    assert names(reply) == [f"m{n:04}" for n in page]
    assert (reply["total"], reply["limit"], reply["offset"]) == (8, limit, offset)


def test_order_is_by_instant_then_by_message_id(api: Api) -> None:
    in_order = [
        ("z", "0001-01-01T00:00:00Z"), ("y", "1969-12-31T23:59:59.999999999Z"),
        ("x", "1970-01-01T00:00:00Z"), ("w", "2025-01-15T10:00:00Z"),
        ("v", "2025-01-15T10:00:00.000000001Z"), ("B", "2025-01-15T10:00:00.5Z"),
        ("a", "2025-01-15T10:00:00.500Z"), ("b", "2025-01-15T10:00:00.50Z"),
        ("é", "2025-01-15T10:00:00.5Z"), ("t", "2025-01-15T10:00:00.51Z"),
        ("s", "2025-01-15T10:00:01Z"), ("r", "9999-12-31T23:59:59Z"),
        ("q", "9999-12-31T23:59:59.999999999Z"),
    ]  # fmt: skip
    shuffled = random.Random(1).sample(in_order, len(in_order))
    api.store(*[a_message(message_id=name, ts=ts) for name, ts in shuffled])

    reply = api.get("/messages")

    assert [(message["message_id"], message["ts"]) for message in reply["data"]] == in_order


SINCE = {
    "2025-01-15T10:00:00Z": "abcd",
    "2025-01-15T10:00:00.000Z": "abcd",
    "2025-01-15T10:00:00.000000001Z": "bcd",
    "2025-01-15T10:00:00.5Z": "bcd",
    "2025-01-15T10:00:00.500000001Z": "cd",
    "2025-01-15T10:00:01Z": "cd",
    "2025-01-15T10:00:01.1Z": "d",
    "0001-01-01T00:00:00Z": "abcd",
    "9999-12-31T23:59:59.999999999Z": "d",
}


@pytest.mark.parametrize("filters", [{}, {"from_": "+919876543210"}], ids=str)
def test_since_is_inclusive_and_exact(api: Api, filters: dict[str, str]) -> None:
    api.store(
        a_message(message_id="a"),
        a_message(message_id="b", ts="2025-01-15T10:00:00.5Z"),
        a_message(message_id="c", ts="2025-01-15T10:00:01Z"),
        a_message(message_id="d", ts="9999-12-31T23:59:59.999999999Z"),
    )

    for since, found in SINCE.items():
        reply = api.get("/messages", since=since, **filters)
        assert ("".join(names(reply)), reply["total"]) == (found, len(found)), since


TIMES = {
    "2025-01-15T09:30:00+00:00": "2025-01-15T09:30:00Z",
    "2025-01-15T09:30:00 00:00": "2025-01-15T09:30:00Z",  # a bare plus
    "2025-01-15T15:00:00.5 05:30": "2025-01-15T09:30:00.5Z",
    "2025-01-15T04:00-05:30": "2025-01-15T09:30:00Z",
    "2025-01-14T23:30-1000": "2025-01-15T09:30:00Z",
    "2025-01-15T09:30:00": "2025-01-15T09:30:00Z",
    "2025-01-15T09:30:00,123456789": "2025-01-15T09:30:00.123456789Z",
    "2025-01-15t09:30:00z": "2025-01-15T09:30:00Z",
    "2025-01-15 09:30Z": "2025-01-15T09:30:00Z",
    "20250115T093000Z": "2025-01-15T09:30:00Z",
    " 2025-01-15T09 ": "2025-01-15T09:00:00Z",
    "2025-01-15": "2025-01-15T00:00:00Z",
    "2025-W03-3": "2025-01-15T00:00:00Z",
}


@pytest.mark.parametrize("path", ["/messages", "/stats", "/inbox"])
@pytest.mark.parametrize("typed", TIMES)
def test_since_and_until_are_read_as_iso_8601(api: Api, path: str, typed: str) -> None:
    ts = TIMES[typed]
    api.store(a_message(message_id="before", ts="2025-01-14T23:59:59Z"), a_message(ts=ts))

    def found(**query: str) -> object:
        response = api.client.get(path, query_string=query)
        if response.json is None:
            return response.status_code, response.text.count("<article>")
        return response.status_code, response.json.get("total", response.json.get("total_messages"))

    assert found(since=typed) == (200, 1)
    assert found(until=typed) == (200, 1)
    assert found(since="2025-01-15T09:30:01Z") == (200, 0)


def test_the_next_page_has_the_same_times(api: Api) -> None:
    api.store(*some_messages(3))

    response = api.client.get("/messages?limit=1&since=2025-01-15T05:30:01+05:30")

    assert "since=2025-01-15T00%3A00%3A01Z&" in response.headers["Link"]


@pytest.mark.parametrize("url", ["?from_msisdn=+2", "?from_msisdn=%2B2", "?from=&from_msisdn=+2"])
def test_the_sender_may_have_the_name_of_its_column(api: Api, url: str) -> None:
    api.store(a_message(message_id="a"), a_message(message_id="b", sender="+2"))

    assert names(api.client.get(f"/messages{url}").json) == ["b"]
    assert api.client.get(f"/stats{url}").json == api.client.get("/stats?from=%2B2").json


@pytest.mark.parametrize("limit", ["+5", "%2B5", "5%20", "%205", "+5+"])
def test_a_blank_or_a_plus_around_a_number_is_no_fault(api: Api, limit: str) -> None:
    response = api.client.get(f"/messages?limit={limit}&offset={limit}")

    assert response.json == {"data": [], "total": 0, "limit": 5, "offset": 5}
    assert api.client.get(f"/inbox/new?above={limit}").json == {"new": 0}


@pytest.mark.parametrize("url", ["/messages?from=+919876543210", "/messages?from=%2B919876543210"])
def test_a_senders_messages_are_found_with_a_bare_plus_too(api: Api, url: str) -> None:
    api.store(
        a_message(message_id="a"),
        a_message(message_id="b", sender="+91987654321"),
        a_message(message_id="c", sender="+9198765432100"),
    )

    reply = api.client.get(url).json

    assert (names(reply), reply and reply["total"]) == (["a"], 1)


@pytest.mark.parametrize("sender", ["919876543210", "+91%", "+91987654321_", "nobody", "+0"])
def test_a_sender_is_matched_exactly(api: Api, sender: str) -> None:
    api.store(a_message())

    assert api.get("/messages", from_=sender)["total"] == 0


def test_an_empty_parameter_counts_as_absent(api: Api) -> None:
    api.store(*some_messages(3))

    reply = api.client.get("/messages?from=&q=&since=&limit=&offset=&cursor=").json

    assert reply == api.client.get("/messages").json
    assert reply is not None
    assert reply["total"] == 3


def test_unknown_parameters_are_ignored(api: Api) -> None:
    api.store(a_message())

    response = api.client.get("/messages?page=2&receiver=+1&name[]=x&")

    assert response.json is not None
    assert response.json["total"] == 1


BAD_VALUES = {
    "limit": [
        "0", "101", "-1", "ten", "1.0", "1e1", "++5", "+ 5", "5\n", "+", "1_0", "٥", "²",
        "0x5", "\x00", *[str(2**bits) for bits in (31, 32, 63, 64, 128)], "9" * 5000,
    ],
    "offset": [
        "-1", "x", "1.5", "²",
        *[str(n) for n in (2**63, 2**64, -(2**63) - 1, 10**39, 10**41)],
    ],
    "since": [
        "yesterday", "1736935200", "2025-13-01", "2025-1-15", "2025-02-30T10:00:00Z", "10:00:00Z",
        "2025-01-15T24:00Z", "2025-01-15T10:00:60Z", "2025-01-15T10:00.5Z", "2025-01-15T10+25:00",
        "2025-01-15T10:00:00ZZ", "2025-01-15T10:00:00Z+01:00", "2025-01-15T10:00:00.0000000001Z",
        "0001-01-01T00:00+01:00", "9999-12-31T23:00-01:00", "٢025-01-15", "2025-01-15T10:00:00Z\n",
        "2025-01-15T10:00:00 CET", "\x00",
    ],
    "cursor": [
        "x", "é", "=", "\x00", "MS4yLjM=x", "MTIzNA", "LjEuMQ",
        "OTk5OTk5OTk5OTk5OTk5OTk5OTk5LjAuMQ",
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_VALUES)
def test_a_bad_value_is_422_and_named(api: Api, name: str) -> None:
    for value in BAD_VALUES[name]:
        response = api.client.get("/messages", query_string={name: value})

        assert response.status_code == 422, value
        assert response.json is not None
        (error,) = response.json["detail"]
        assert list(error) == ["type", "loc", "msg"]
        assert error["loc"] == ["query", name]


def test_a_time_that_is_none_is_422_with_two_examples(api: Api) -> None:
    for path in ("/messages", "/stats"):
        response = api.client.get(path, query_string={"until": "now"})

        assert response.status_code == 422
        assert "such as 2025-01-15T09:30:00Z or 2025-01-15" in response.text


def test_every_bad_parameter_is_named_at_once(api: Api) -> None:
    response = api.client.get("/messages?limit=0&offset=-1&since=x&cursor=x")

    assert response.json is not None
    assert {error["loc"][1] for error in response.json["detail"]} == {
        "limit", "offset", "since", "cursor",
    }  # fmt: skip


def test_the_largest_offset_is_an_empty_page(api: Api) -> None:
    api.store(a_message())

    response = api.client.get(f"/messages?offset={2**63 - 1}&limit=100")

    assert response.json == {"data": [], "total": 1, "limit": 100, "offset": 2**63 - 1}
    assert "Link" not in response.headers


def test_a_deep_page_is_the_same_as_a_slice_of_all(api: Api) -> None:
    # Uneven: many at one second, and gaps of every scale of the counters.
    random_ = random.Random(2)
    years = ["0001", "1969", "1970", "2024", "2025", "2025", "2025", "9999"]
    moments = [
        f"{random_.choice(years)}-01-{random_.choice('123'):0>2}T10:00:{n % 3:02}Z"
        for n in range(2600)
    ]
    payloads = [a_message(message_id=f"m{n:04}", ts=ts) for n, ts in enumerate(moments)]
    for start in range(0, 2600, 650):
        api.store(*payloads[start : start + 650])
    in_order = [name for _, name in sorted((p["ts"], p["message_id"]) for p in payloads)]
    since = "2025-01-01T00:00:00Z"
    later = [
        name for ts, name in sorted((p["ts"], p["message_id"]) for p in payloads) if ts >= since
    ]

    for offset in [0, 7, 999, 1000, 1001, 1002, 1300, 1777, 2500, 2598, 2599, 2600, 2601]:
        reply = api.get("/messages", limit=7, offset=offset)
        assert (names(reply), reply["total"]) == (in_order[offset : offset + 7], 2600)

        reply = api.get("/messages", limit=5, offset=offset, since=since)
        assert (names(reply), reply["total"]) == (later[offset : offset + 5], len(later))

    response = api.client.get("/messages?limit=7&offset=2000")
    assert names(api.client.get(following(response)).json) == in_order[2007:2014]


def test_pages_and_totals_follow_what_is_removed(api: Api) -> None:
    api.store(*some_messages(6))

    api.writer.execute("DELETE FROM messages WHERE message_id IN ('m0000', 'm0003')")

    reply = api.get("/messages", limit=3)
    assert (names(reply), reply["total"]) == (["m0001", "m0002", "m0004"], 4)
    assert api.get("/messages", since="2025-01-15T00:00:03Z")["total"] == 2
    assert api.get("/messages", from_="+919876543210")["total"] == 4
