"""/consumers: a position that the service keeps for a program."""

from dataclasses import replace
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from tests.builders import a_message, samples, some_messages
from tests.conftest import Store
from webhook_api.config import Config
from webhook_api.store import consumers
from webhook_api.store.lock import LockedConnection
from webhook_api.store.messages import of_number, remove_messages

TOKEN = "token"
CREATE = {"If-None-Match": "*"}
ANYWHERE = {"If-Match": "*"}


@pytest.fixture
def config(config: Config) -> Config:
    return replace(config, read_token=TOKEN)


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    client = app.test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {TOKEN}"
    return client


def put(
    client: FlaskClient, headers: dict[str, str], position: object = "start", name: str = "billing"
) -> TestResponse:
    return client.put(f"/consumers/{name}", json={"position": position}, headers=headers)


def feed(client: FlaskClient, name: str = "billing") -> Any:
    return client.get(f"/messages?consumer={name}&limit=2").json


def test_a_consumer_reads_all_and_its_position_is_kept(client: FlaskClient, store: Store) -> None:
    store(*some_messages(3))
    created = put(client, CREATE)
    assert (created.status_code, created.json["position"]) == (201, created.headers["ETag"][1:-1])  # type: ignore[index]

    seen = []
    while (page := feed(client))["data"]:
        assert feed(client) == page  # nothing is acknowledged yet
        seen += [message["message_id"] for message in page["data"]]
        moved = put(client, {"If-Match": f'"{page["acknowledged"]}"'}, page["position"])
        assert (moved.status_code, moved.headers["ETag"]) == (200, f'"{page["position"]}"')

    assert seen == ["m0000", "m0001", "m0002"]
    shown = client.get("/consumers/billing")
    assert shown.headers["ETag"] == moved.headers["ETag"]
    assert client.get("/consumers").json == {"data": [shown.json]}
    assert shown.json == moved.json
    assert shown.json.pop("updated_at").endswith("Z")  # type: ignore[union-attr]
    assert shown.json | {"position": 0} == {  # type: ignore[operator]
        "name": "billing", "position": 0, "behind": 0, "oldest_unread_seconds": 0.0, "missed": 0,
        "updated_at": shown.json["updated_at"],  # type: ignore[index]
    }  # fmt: skip


def test_of_two_processes_with_one_name_one_is_refused(client: FlaskClient, store: Store) -> None:
    store(*some_messages(4))
    put(client, CREATE)
    page = feed(client)

    replies = [
        put(client, {"If-Match": f'"{page["acknowledged"]}"'}, page["position"]) for _ in range(2)
    ]

    assert [reply.status_code for reply in replies] == [200, 412]
    assert replies[1].json == {
        "detail": "the consumer is at another position",
        "code": "moved",
        "position": page["position"],
    }
    assert put(client, ANYWHERE, "start").json["behind"] == 4  # type: ignore[index]
    assert put(client, CREATE).status_code == 412


@pytest.mark.parametrize(
    ("name", "headers", "body", "status"),
    [
        ("a", {}, {"position": "start"}, 428),
        ("a", {"If-None-Match": '"1.aaaaaaaa"'}, {"position": "start"}, 428),
        ("a", ANYWHERE, {"position": "start"}, 404),
        ("a", {"If-Match": '"1.aaaaaaaa"'}, {"position": "start"}, 404),
        ("a", CREATE, {"position": "7"}, 422),
        ("a", CREATE, {"position": 7}, 422),
        ("a", CREATE, {}, 422),
        ("a", CREATE, [], 422),
        ("a", CREATE, {"position": "7.aaaaaaaa"}, 410),
        ("a", CREATE, {"position": "now"}, 201),
        ("0.a_b-c", CREATE, {"position": "start"}, 201),
        ("a" * 64, CREATE, {"position": "start"}, 201),
        ("a" * 65, CREATE, {"position": "start"}, 404),
        ("-a", CREATE, {"position": "start"}, 404),
        ("A", CREATE, {"position": "start"}, 404),
        ("a%0A", CREATE, {"position": "start"}, 404),
    ],
)
def test_what_a_put_is_answered(
    client: FlaskClient, name: str, headers: dict[str, str], body: object, status: int
) -> None:
    reply = client.put(f"/consumers/{name}", json=body, headers=headers)

    assert reply.status_code == status
    listed: Any = client.get("/consumers").json
    assert len(listed["data"]) == (status == 201)


def test_a_removed_consumer_is_unknown(client: FlaskClient) -> None:
    put(client, CREATE)

    assert client.delete("/consumers/billing").status_code == 204

    for reply in (
        client.delete("/consumers/billing"),
        client.get("/consumers/billing"),
        client.get("/messages?consumer=billing"),
        client.get("/messages?consumer=billing", headers={"Accept": "application/x-ndjson"}),
    ):
        assert reply.status_code == 404
        assert reply.json["code"] == "no_consumer"  # type: ignore[index]


def test_there_are_64_at_most(client: FlaskClient) -> None:
    statuses = [put(client, CREATE, name=f"c{number}").status_code for number in range(66)]

    assert statuses == [201] * 64 + [409] * 2


def test_missed_is_what_age_removed_unread(
    client: FlaskClient, store: Store, writer: LockedConnection
) -> None:
    store(*(a_message(message_id=f"m{n}", sender=f"+{n}") for n in range(1, 9)))
    put(client, CREATE, name="slow")
    put(client, CREATE)
    put(client, ANYWHERE, feed(client)["position"])
    put(client, CREATE, "now", name="quick")

    remove_messages(writer, [3], of_number("+3"))  # which is no loss
    remove_messages(writer, [1, 2, 4])
    remove_messages(writer, [4, 5, 6])

    listed: Any = client.get("/consumers").json
    assert {one["name"]: (one["missed"], one["behind"]) for one in listed["data"]} == {
        "billing": (3, 2), "quick": (0, 0), "slow": (5, 2),
    }  # fmt: skip
    lost: Any = client.get("/messages?consumer=slow")
    assert (lost.status_code, lost.json["code"]) == (410, "pruned")
    assert put(client, ANYWHERE, lost.json["start"], name="slow").status_code == 200
    assert [one["message_id"] for one in feed(client, "slow")["data"]] == ["m7", "m8"]


def test_behind_is_exact_or_not_too_few(
    client: FlaskClient, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(*some_messages(20))
    put(client, CREATE)
    monkeypatch.setattr(consumers, "EXACT_UP_TO", 5)

    for position, behind in (("start", 20), ("now", 0)):
        shown: Any = put(client, ANYWHERE, position).json
        assert shown["behind"] == behind
        assert (shown["oldest_unread_seconds"] > 0) is (behind > 0)


def test_only_who_has_the_token_changes_consumers(client: FlaskClient) -> None:
    del client.environ_base["HTTP_AUTHORIZATION"]

    assert put(client, CREATE).status_code == 401
    assert client.delete("/consumers/billing").status_code == 401


def test_without_a_token_nobody_changes_consumers(
    config: Config, app: Flask, client: FlaskClient
) -> None:
    app.config["SETTINGS"] = replace(config, read_token="")

    assert put(client, CREATE).status_code == 403
    assert client.delete("/consumers/billing").status_code == 403
    assert client.get("/consumers").json == {"data": []}


def test_the_metrics_of_a_consumer(app: Flask, client: FlaskClient, store: Store) -> None:
    store(*some_messages(3))
    put(client, CREATE)

    found = samples(client.get("/metrics").text)

    labels = '{consumer="billing"}'
    assert found[f"consumer_behind_messages{labels}"] == 3
    assert found[f"consumer_oldest_unread_seconds{labels}"] > 0
    assert found[f"consumer_retention_used_ratio{labels}"] == 0
    assert found[f"consumer_missed_messages_total{labels}"] == 0
    assert found["feed_waiting"] == 0
