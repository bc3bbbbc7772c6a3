"""/consumers: a position that the service keeps for a program."""

from dataclasses import replace
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from tests.builders import a_message, samples, some_messages
from tests.conftest import Api
from webhook_api.config import Config
from webhook_api.store import positions
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


def test_a_consumer_reads_all_and_its_position_is_kept(api: Api) -> None:
    api.store(*some_messages(3))
    created = put(api.client, CREATE)
    assert (created.status_code, created.json["position"]) == (201, created.headers["ETag"][1:-1])  # type: ignore[index]

    seen = []
    while (page := feed(api.client))["data"]:
        assert feed(api.client) == page  # nothing is acknowledged yet
        seen += [message["message_id"] for message in page["data"]]
        moved = put(api.client, {"If-Match": f'"{page["acknowledged"]}"'}, page["position"])
        assert (moved.status_code, moved.headers["ETag"]) == (200, f'"{page["position"]}"')

    assert seen == ["m0000", "m0001", "m0002"]
    shown = api.client.get("/consumers/billing")
    assert shown.headers["ETag"] == moved.headers["ETag"]
    assert api.client.get("/consumers").json == {"data": [shown.json]}
    assert shown.json == moved.json
    assert shown.json.pop("updated_at").endswith("Z")  # type: ignore[union-attr]
    assert shown.json | {"position": 0} == {  # type: ignore[operator]
        "name": "billing", "position": 0, "behind": 0, "oldest_unread_seconds": 0.0, "missed": 0,
        "updated_at": shown.json["updated_at"],  # type: ignore[index]
    }  # fmt: skip


def test_of_two_processes_with_one_name_one_is_refused(api: Api) -> None:
    api.store(*some_messages(4))
    put(api.client, CREATE)
    page = feed(api.client)

    replies = [
        put(api.client, {"If-Match": f'"{page["acknowledged"]}"'}, page["position"])
        for _ in range(2)
    ]

    assert [reply.status_code for reply in replies] == [200, 412]
    assert replies[1].json == {
        "detail": "the consumer is at another position",
        "code": "moved",
        "position": page["position"],
    }
    assert put(api.client, ANYWHERE, "start").json["behind"] == 4  # type: ignore[index]
    assert put(api.client, CREATE).status_code == 412


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
    api: Api, name: str, headers: dict[str, str], body: object, status: int
) -> None:
    reply = api.client.put(f"/consumers/{name}", json=body, headers=headers)

    assert reply.status_code == status
    listed: Any = api.client.get("/consumers").json
    assert len(listed["data"]) == (status == 201)


def test_a_removed_consumer_is_unknown(api: Api) -> None:
    put(api.client, CREATE)

    assert api.client.delete("/consumers/billing").status_code == 204

    for reply in (
        api.client.delete("/consumers/billing"),
        api.client.get("/consumers/billing"),
        api.client.get("/messages?consumer=billing"),
        api.client.get("/messages?consumer=billing", headers={"Accept": "application/x-ndjson"}),
    ):
        assert reply.status_code == 404
        assert reply.json["code"] == "no_consumer"  # type: ignore[index]


def test_there_are_64_at_most(api: Api) -> None:
    statuses = [put(api.client, CREATE, name=f"c{number}").status_code for number in range(66)]

    assert statuses == [201] * 64 + [409] * 2


def test_missed_is_what_age_removed_unread(api: Api) -> None:
    api.store(*(a_message(message_id=f"m{n}", sender=f"+{n}") for n in range(1, 9)))
    put(api.client, CREATE, name="slow")
    put(api.client, CREATE)
    put(api.client, ANYWHERE, feed(api.client)["position"])
    put(api.client, CREATE, "now", name="quick")

    remove_messages(api.writer, [3], of_number("+3"))  # which is no loss
    remove_messages(api.writer, [1, 2, 4])
    remove_messages(api.writer, [4, 5, 6])

    listed: Any = api.client.get("/consumers").json
    assert {one["name"]: (one["missed"], one["behind"]) for one in listed["data"]} == {
        "billing": (3, 2), "quick": (0, 0), "slow": (5, 2),
    }  # fmt: skip
    lost: Any = api.client.get("/messages?consumer=slow")
    assert (lost.status_code, lost.json["code"]) == (410, "pruned")
    assert put(api.client, ANYWHERE, lost.json["start"], name="slow").status_code == 200
    assert [one["message_id"] for one in feed(api.client, "slow")["data"]] == ["m7", "m8"]


def test_behind_is_exact_or_not_too_few(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    api.store(*some_messages(20))
    put(api.client, CREATE)
    monkeypatch.setattr(positions, "EXACT_UP_TO", 5)

    for position, behind in (("start", 20), ("now", 0)):
        shown: Any = put(api.client, ANYWHERE, position).json
        assert shown["behind"] == behind
        assert (shown["oldest_unread_seconds"] > 0) is (behind > 0)


def test_only_who_has_the_token_changes_consumers(api: Api) -> None:
    del api.client.environ_base["HTTP_AUTHORIZATION"]

    assert put(api.client, CREATE).status_code == 401
    assert api.client.delete("/consumers/billing").status_code == 401


def test_without_a_token_nobody_changes_consumers(api: Api) -> None:
    api.app.config["SETTINGS"] = replace(api.config, read_token="")

    assert put(api.client, CREATE).status_code == 403
    assert api.client.delete("/consumers/billing").status_code == 403
    assert api.client.get("/consumers").json == {"data": []}


def test_the_metrics_of_a_consumer(api: Api) -> None:
    api.store(*some_messages(3))
    put(api.client, CREATE)

    found = samples(api.client.get("/metrics").text)

    labels = '{consumer="billing"}'
    assert found[f"consumer_behind_messages{labels}"] == 3
    assert found[f"consumer_oldest_unread_seconds{labels}"] > 0
    assert found[f"consumer_retention_used_ratio{labels}"] == 0
    assert found[f"consumer_missed_messages_total{labels}"] == 0
    assert found["feed_waiting"] == 0
