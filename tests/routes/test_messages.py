"""GET /messages: pages in the order of instants, links, filters, and streams; one message."""

import json
import random
import re
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from flask.testing import FlaskClient

from tests.builders import a_message, some_messages
from tests.conftest import Api
from tests.routes.pages import following, names, walk
from tests.serving import Server, serving
from webhook_api.services import services_of
from webhook_api.store.messages import remove_messages


@pytest.mark.parametrize(
    ("query", "page"),
    [
        ("", range(50)), ("?limit=1", range(1)), ("?limit=2&offset=1", range(1, 3)),
        ("?limit=100", range(60)), ("?limit=3&offset=58", range(58, 60)),
        ("?limit=5&offset=60", []), ("?limit=5&offset=61", []),
        ("?limit=007&offset=-0", range(7)), (f"?limit=100&offset={2**63 - 1}", []),
        ("?page=2&receiver=+1&name[]=x&", range(50)),
        ("?from=&q=&since=&limit=&offset=&cursor=", range(50)),
    ],
)  # fmt: skip
def test_limit_and_offset_cut_the_page_and_come_back(api: Api, query: str, page: Any) -> None:
    empty = api.get("/messages")
    api.store(*some_messages(60))

    response = api.client.get(f"/messages{query}")

    assert empty == {"data": [], "total": 0, "limit": 50, "offset": 0}
    reply: Any = response.json
    given = dict(re.findall(r"(limit|offset)=(\d+)", query))
    assert names(reply) == [f"m{n:04}" for n in page]
    assert (reply["total"], reply["limit"]) == (60, int(given.get("limit", 50)))
    assert reply["offset"] == int(given.get("offset", 0))
    assert ("Link" in response.headers) == (len(page) > 0 and page[-1] < 59)


def test_a_message_comes_back_as_it_was_delivered(api: Api) -> None:
    api.post(a_message(text=None))

    response = api.client.get("/messages")

    assert response.content_type == "application/json"
    assert response.json == {"data": [a_message(text=None)], "total": 1, "limit": 50, "offset": 0}
    # In the order of the specification's example.
    assert list(response.json) == ["data", "total", "limit", "offset"]
    assert list(response.json["data"][0]) == ["message_id", "from", "to", "ts", "text"]


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


@pytest.mark.parametrize(
    ("sender", "found"),
    [("+919876543210", "a"), (" 919876543210", "a"), ("919876543210", ""), ("+91%", ""),
     ("+91987654321_", ""), ("nobody", ""), ("+0", "")],
)  # fmt: skip
def test_a_sender_is_matched_exactly(api: Api, sender: str, found: str) -> None:
    api.store(
        a_message(message_id="a"),
        a_message(message_id="b", sender="+91987654321"),
        a_message(message_id="c", sender="+9198765432100"),
    )

    reply = api.get("/messages", from_=sender)

    assert ("".join(names(reply)), reply["total"]) == (found, len(found))


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
        stream = api.client.get("/messages", query_string={name: value}, headers=NDJSON)
        assert (stream.status_code, stream.mimetype) == (422, "application/json")
    together = api.client.get("/messages?limit=0&offset=-1&since=x&cursor=x").json or {}
    assert [error["loc"][1] for error in together["detail"]] == [
        "since", "limit", "offset", "cursor",
    ]  # fmt: skip
    for path in ("/messages", "/stats"):
        told = api.client.get(path, query_string={"until": "now"}).text
        assert "such as 2025-01-15T09:30:00Z or 2025-01-15" in told


def test_a_deep_page_is_the_same_as_a_slice_of_all(api: Api) -> None:
    # Uneven: many at one second, and gaps of every scale of the counters.
    random_ = random.Random(2)
    years = ["0001", "1969", "1970", "2024", "2025", "2025", "2025", "9999"]
    moments = [
        f"{random_.choice(years)}-01-{random_.choice('123'):0>2}T10:00:{n % 3:02}Z"
        for n in range(2600)
    ]
    payloads = [
        a_message(message_id=f"m{n:04}", ts=ts, sender=f"+{n % 2}") for n, ts in enumerate(moments)
    ]
    for start in range(0, 2600, 650):
        api.store(*payloads[start : start + 650])
    in_order = [name for _, name in sorted((p["ts"], p["message_id"]) for p in payloads)]
    since = "2025-01-01T00:00:00Z"
    own = [name for name in in_order if int(name[1:]) % 2]
    later = [
        name for ts, name in sorted((p["ts"], p["message_id"]) for p in payloads) if ts >= since
    ]

    for offset in [0, 7, 999, 1000, 1001, 1002, 1300, 1777, 2500, 2598, 2599, 2600, 2601]:
        reply = api.get("/messages", limit=7, offset=offset)
        assert (names(reply), reply["total"]) == (in_order[offset : offset + 7], 2600)

        reply = api.get("/messages", limit=5, offset=offset, since=since)
        assert (names(reply), reply["total"]) == (later[offset : offset + 5], len(later))

    assert names(api.get("/messages", limit=7, offset=1100, from_="+1")) == own[1100:1107]
    response = api.client.get("/messages?limit=7&offset=2000")
    assert names(api.client.get(following(response)).json) == in_order[2007:2014]


def test_next_keeps_every_filter_and_drops_the_offset(api: Api) -> None:
    api.store(*some_messages(10, text="50% &+é"), a_message(message_id="other", sender="+1"))
    filters = "from=+919876543210&since=2025-01-15T00:00:02Z&q=%25+%26%2B%C3%89"
    filters += "&to=+14155550100&provider=webhook"

    response = api.client.get(f"/messages?{filters}&limit=2&offset=1")
    query = parse_qs(urlsplit(following(response)).query)

    assert urlsplit(following(response)).path == "/messages"
    assert {name: value for name, (value,) in query.items() if name != "cursor"} == {
        "from": "+919876543210", "since": "2025-01-15T00:00:02Z", "q": "% &+É", "limit": "2",
        "to": "+14155550100", "provider": "webhook",
    }  # fmt: skip
    assert walk(api.client, following(response)) == [f"m{n:04}" for n in range(5, 10)]


@pytest.mark.parametrize(
    "filters",
    [
        "",
        "&q=hello",
        "&q=he",
        "&from=+919876543210",
        "&since=2025-01-15T00:00:00Z",
        "&to=+14155550100",
        "&provider=webhook",
        "&to=+14155550100&q=he",
    ],
)
def test_next_visits_each_row_once_while_others_are_added(api: Api, filters: str) -> None:
    ts = "2025-01-15T10:00:00.{}Z"
    there = [a_message(message_id=f"m{n:02}", ts=ts.format(n // 5 + 1)) for n in range(30)]
    api.store(*there)
    random_ = random.Random(3)
    added = iter(range(100, 10_000))

    def add() -> None:
        for _ in range(3):
            n = next(added)
            api.store(
                a_message(
                    message_id=f"{random_.choice('an')}{n}", ts=ts.format(random_.randint(1, 6))
                )
            )

    visited = walk(api.client, f"/messages?limit=4{filters}", after_each=add)

    assert [name for name in visited if name.startswith("m")] == [f"m{n:02}" for n in range(30)]
    assert len(visited) == len(set(visited))


NDJSON = {"Accept": "application/x-ndjson"}


def stream(client: FlaskClient, url: str) -> list[dict[str, Any]]:
    response = client.get(url, headers=NDJSON)
    assert (response.status_code, response.mimetype) == (200, "application/x-ndjson")
    return [json.loads(line) for line in response.text.splitlines()]


@pytest.mark.parametrize("same", [{}, {"ts": "2025-01-15T10:00:00Z"}], ids=["in order", "alike"])
def test_next_goes_on_when_its_row_was_removed(api: Api, same: dict[str, str]) -> None:
    api.store(*some_messages(6, **same))
    response = api.client.get("/messages?limit=3")

    api.writer.execute("DELETE FROM messages WHERE message_id = 'm0002'")

    rest = walk(api.client, following(response))
    assert rest[-3:] == ["m0003", "m0004", "m0005"]
    assert same or len(rest) == 3


def test_ndjson_streams_all_messages_as_lines(api: Api) -> None:
    payloads = some_messages(2300, text="Ünïcode\u2028\n")
    for start in range(0, 2300, 575):
        api.store(*payloads[start : start + 575])

    assert stream(api.client, "/messages") == payloads
    assert stream(api.client, "/messages?limit=5&offset=7") == payloads


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("/messages?since=2025-01-15T00:00:04Z", ["m0004", "m0005", "z"]),
        ("/messages?from=+1", ["z"]),
        ("/messages?q=HELLO", [f"m{n:04}" for n in range(6)]),
        ("/messages?q=e&since=2025-01-15T00:00:05Z&from=+919876543210", ["m0005"]),
        ("/messages?q=nowhere", []),
        ("/messages?q=%00", ["z"]),
        ("/messages?to=+2", ["z"]),
        ("/messages?to=%2B2&from=+919876543210", []),
        ("/messages?to=+14155550100&since=2025-01-15T00:00:04Z&q=E", ["m0004", "m0005"]),
        ("/messages?to=&provider=&message_id=&from=+1", ["z"]),
        ("/messages?provider=webhook&since=2026-01-01", ["z"]),
        ("/messages?provider=meta", []),
        ("/messages?message_id=m0003", ["m0003"]),
        ("/messages?message_id=m0003&q=HELLO&to=+14155550100", ["m0003"]),
        ("/messages?message_id=m0003&q=nowhere", []),
        ("/messages?message_id=m0003&until=2025-01-15T00:00:03Z", []),
        ("/messages?message_id=M0003", []),
    ],
)
def test_a_stream_has_the_same_filters(api: Api, url: str, found: list[str]) -> None:
    api.store(
        *some_messages(6),
        a_message(message_id="z", sender="+1", to="+2", text="\x00", ts="2026-01-01T00:00:00Z"),
    )

    assert [message["message_id"] for message in stream(api.client, url)] == found
    assert names(api.client.get(url).json) == found


@pytest.mark.parametrize("same", [{}, {"ts": "2025-01-15T10:00:00Z"}], ids=["in order", "alike"])
def test_a_stream_holds_no_snapshot_has_each_row_once_and_gives_its_connection_back(
    api: Api, same: dict[str, str]
) -> None:
    payloads = some_messages(1500, **same)
    api.store(*payloads[:750])
    api.store(*payloads[750:])
    with services_of(api.app).database.reader() as reader:
        pass

    response = api.client.get("/messages", headers=NDJSON, buffered=False)
    blocks = response.iter_encoded()
    first = next(blocks)
    # The last row of the first read goes.
    api.writer.execute("DELETE FROM messages WHERE message_id = 'm0999'")
    busy, *_ = api.writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    lines = b"".join([first, *blocks]).splitlines()
    response.close()

    assert busy == 0
    assert [json.loads(line) for line in lines] == payloads
    with services_of(api.app).database.reader() as acquired:
        assert acquired is reader


@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_a_stream_that_nobody_reads_gives_its_connection_back(api: Api, method: str) -> None:
    api.store(*some_messages(5))
    with services_of(api.app).database.reader() as reader:
        pass

    for _ in range(3):
        api.client.open("/messages", method=method, headers=NDJSON).close()

    with services_of(api.app).database.reader() as acquired:
        assert acquired is reader


@pytest.mark.parametrize(
    ("accept", "mimetype"),
    [
        ("*/*", "application/json"),
        ("text/html,*/*;q=0.8", "application/json"),
        ("text/html", "application/json"),
        ("application/json, application/x-ndjson", "application/json"),
        ("application/x-ndjson;q=0.5, application/json", "application/json"),
        ("application/x-ndjson", "application/x-ndjson"),
        ("application/x-ndjson, */*;q=0.1", "application/x-ndjson"),
    ],
)
def test_json_is_the_answer_unless_ndjson_is_preferred(
    api: Api, accept: str, mimetype: str
) -> None:
    assert api.client.get("/messages", headers={"Accept": accept}).mimetype == mimetype


# GET /messages/{message_id}: one message with all that is kept of it.
IDS = [
    "m1", "a/b", "/a", "a//b/", "..", "a/../b", "?q=1#x", "%2F", " ", "+", "é😀", "\u202e",
    "a\nb", "a\x00b", "x" * 512, "new", "meta:wamid.HBgL==",
]  # fmt: skip


def whole(client: FlaskClient, message_id: str) -> Any:
    return client.get("/messages/" + quote(message_id, safe="")).json


@pytest.mark.parametrize("message_id", IDS, ids=ascii)
def test_any_id_is_found(api: Api, message_id: str) -> None:
    api.post(a_message(message_id=message_id))

    found = whole(api.client, message_id)

    received_at = found.pop("received_at")
    assert received_at.endswith("Z")
    more = {"provider": "webhook", "kind": "text", "payload": None}
    assert found == a_message(message_id=message_id) | more


def test_without_a_text_there_is_no_kind(api: Api) -> None:
    api.post(a_message(text=None))

    assert whole(api.client, "m1")["kind"] is None


def test_an_unknown_message_is_404_and_a_removed_one_410(api: Api) -> None:
    api.store(a_message())
    assert api.client.get("/messages/m2").status_code == 404

    remove_messages(api.writer, [1])

    gone = api.client.get("/messages/m1")
    assert (gone.status_code, gone.json) == (410, {"detail": "the message was removed"})
    assert api.client.get("/messages/m2").status_code == 404


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with serving(tmp_path_factory.mktemp("server")) as server:
        yield server


def test_the_server_hands_every_id_over_unchanged(server: Server) -> None:
    with server.client() as client:
        for message_id in IDS:
            assert client.deliver(message_id=message_id).status == 200
            path = "/messages/" + quote(message_id, safe="")
            assert client.request("GET", path).json["message_id"] == message_id
