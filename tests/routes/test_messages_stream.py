"""GET /messages as NDJSON: all messages, or those of a filter, each once."""

import json
from typing import Any

import pytest
from flask.testing import FlaskClient

from tests.builders import a_message, some_messages
from tests.conftest import Api
from tests.routes.pages import names
from webhook_api.services import services_of

NDJSON = {"Accept": "application/x-ndjson"}


def stream(client: FlaskClient, url: str) -> list[dict[str, Any]]:
    response = client.get(url, headers=NDJSON)
    assert (response.status_code, response.mimetype) == (200, "application/x-ndjson")
    return [json.loads(line) for line in response.text.splitlines()]


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


def test_head_of_a_stream_has_no_length(api: Api) -> None:
    api.store(*some_messages(3))

    response = api.client.head("/messages", headers=NDJSON)

    assert (response.status_code, response.mimetype) == (200, "application/x-ndjson")
    assert "Content-Length" not in response.headers


@pytest.mark.parametrize("query", ["since=x", "limit=0", "limit=x", "offset=-1", "cursor=x"])
def test_a_stream_refuses_bad_parameters(api: Api, query: str) -> None:
    response = api.client.get(f"/messages?{query}", headers=NDJSON)

    assert (response.status_code, response.content_type) == (422, "application/json")


def test_a_stream_holds_no_snapshot_and_gives_its_connection_back(api: Api) -> None:
    payloads = some_messages(1500)
    api.store(*payloads[:750])
    api.store(*payloads[750:])
    with services_of(api.app).database.reader() as reader:
        pass

    response = api.client.get("/messages", headers=NDJSON, buffered=False)
    blocks = response.iter_encoded()
    first = next(blocks)
    # The last row of the first read goes; the next one is of another instant.
    api.writer.execute("DELETE FROM messages WHERE message_id = 'm0999'")
    busy, *_ = api.writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    lines = b"".join([first, *blocks]).splitlines()
    response.close()

    assert busy == 0
    assert [json.loads(line) for line in lines] == payloads
    with services_of(api.app).database.reader() as acquired:
        assert acquired is reader


def test_a_stream_has_each_row_once_when_a_row_is_removed_meanwhile(api: Api) -> None:
    payloads = some_messages(1500, ts="2025-01-15T10:00:00Z")
    api.store(*payloads[:750])
    api.store(*payloads[750:])

    blocks = api.client.get("/messages", headers=NDJSON, buffered=False).iter_encoded()
    first = next(blocks)
    api.writer.execute("DELETE FROM messages WHERE message_id = 'm0999'")
    lines = b"".join([first, *blocks]).splitlines()

    assert [json.loads(line) for line in lines] == payloads


def test_every_stream_that_has_ended_frees_its_place(api: Api) -> None:
    api.store(*some_messages(500))

    for _ in range(10):
        api.client.get("/messages", headers=NDJSON).get_data()
        api.client.head("/messages", headers=NDJSON).close()
        api.client.get("/messages?q=nothing", headers=NDJSON, buffered=False)
        next(api.client.get("/messages", headers=NDJSON, buffered=False).iter_encoded())

    assert api.client.get("/messages", headers=NDJSON).status_code == 200


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
