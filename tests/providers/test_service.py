"""Providers on the real server: large deliveries under load, kill -9, and any input."""

import base64
import hashlib
import hmac
import http.client
import json
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from functools import reduce
from itertools import product
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from flask.testing import FlaskClient
from hypothesis import example, given
from hypothesis import strategies as st
from werkzeug.test import TestResponse

from tests.builders import an_app
from tests.providers.samples import (
    AUTH_TOKEN,
    PUBLIC_URL,
    SETTINGS,
    a_config,
    a_whatsapp,
    from_meta,
    from_standard,
    from_twilio,
    signed_as,
    some_whatsapps,
)
from tests.serving import Client, Server, serving, wait_until
from webhook_api import close_app
from webhook_api.errors import BodyTooLarge
from webhook_api.store.connections import connect


def deliver(client: Client, provider: str, body: bytes, slash: str = "") -> int:
    headers = signed_as(provider, body, now=time.time())
    return client.request("POST", f"/webhook/{provider}{slash}", body, headers).status


def test_a_body_of_three_mebibytes_arrives_from_meta_alone(tmp_path: Path) -> None:
    most = 3 * 1024 * 1024
    body = from_meta(a_whatsapp(), contacts=[{"profile": {"name": "x" * (most - 1000)}}])

    deliveries = [
        ("meta", body.ljust(most), {200}), ("meta", body.ljust(most + 1), {413}),
        # Twilio signs the slash as well.
        ("twilio", b"a" * 262_144, {200, 401}), ("twilio", b"a" * 262_145, {413}),
    ]  # fmt: skip
    with serving(tmp_path, **SETTINGS) as server:
        for slash, (provider, sent, statuses) in product(["", "/"], deliveries):
            with server.client() as client:
                assert deliver(client, provider, sent, slash) in statuses
    assert server.ids() == {"meta:wamid.0000"}


def test_a_delivery_is_stored_whole_or_not_at_all_after_a_kill(tmp_path: Path) -> None:
    acknowledged: set[int] = set()
    for number in range(4):
        with serving(tmp_path, **SETTINGS) as server:
            # All processes die while deliveries of a hundred are on their way.
            threads = [
                threading.Thread(target=_deliver_hundreds, args=[server, 100 * n, acknowledged])
                for n in range(10 * number, 10 * number + 4)
            ]
            for thread in threads:
                thread.start()
            before = len(acknowledged)
            wait_until(lambda before=before: len(acknowledged) > before)  # type: ignore[misc]
            time.sleep(0.04 * number)
            server.kill()
            for thread in threads:
                thread.join()

    counts: dict[int, int] = {}
    for (message_id,) in server.query("SELECT message_id FROM messages"):
        hundred = int(message_id.rpartition(".")[2]) // 100
        counts[hundred] = counts.get(hundred, 0) + 1
    assert set(counts.values()) <= {100}
    assert acknowledged <= set(counts)
    assert acknowledged


def _deliver_hundreds(server: Server, start: int, acknowledged: set[int]) -> None:
    """Deliver a hundred new messages at a time, until the server is gone."""
    with suppress(OSError, http.client.HTTPException), server.client() as client:
        while True:
            if deliver(client, "meta", from_meta(*some_whatsapps(100, start))) == 200:
                acknowledged.add(start // 100)
            start += 100_000


ODD: list[Any] = [
    None, True, 0, -1, 1.5, 1e308, -0.0, float("inf"), 2**70, "", "x", "+1", "7", "\0", "\ud800",
    "é", "x" * 5000, [], {}, [[]], [None], {"": None}, [{"from": 1}], {"body": {}},
]  # fmt: skip
CHANGES = st.lists(
    st.tuples(
        st.integers(0, 99),
        st.sampled_from(["replace", "leave out", "repeat"]),
        st.sampled_from(ODD),
    ),
    min_size=1,
    max_size=4,
)


def mutated(payload: Any) -> st.SearchStrategy[Any]:
    """Return `payload` with a few parts replaced, left out or repeated, at any depth."""
    return CHANGES.map(lambda changes: reduce(change, changes, payload))


def change(payload: Any, how: tuple[int, str, Any]) -> Any:
    """Return `payload` with one part changed; `how` says which, and what happens to it."""
    number, kind, other = how
    payload = json.loads(json.dumps(payload))
    found = [*places(payload)]
    if not number or not found:
        return other
    inside, name = found[number % len(found)]
    if kind == "replace":
        inside[name] = other
    elif kind == "leave out":
        del inside[name]
    elif isinstance(inside, list):
        inside.insert(name, inside[name])
    else:
        inside[name] = [inside[name]] * 2
    return payload


def places(payload: Any) -> Iterator[tuple[Any, Any]]:
    """Yield where each part of `payload` is: what holds it, and its name or number there."""
    if isinstance(payload, dict | list):
        for name in payload if isinstance(payload, dict) else range(len(payload)):
            yield payload, name
            yield from places(payload[name])


META = json.loads(
    from_meta(
        a_whatsapp(type="location", location={"name": "n", "latitude": 1.5, "longitude": 2}),
        a_whatsapp(1, type="interactive", interactive={"list_reply": {"title": "t"}}),
        statuses=[{"status": "read"}],
    )
)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FlaskClient]:
    app = an_app(a_config(tmp_path_factory.mktemp("any")))
    yield app.test_client()
    close_app(app)


def answers(service: FlaskClient, provider: str, body: bytes) -> int:
    """Return the status of a signed delivery: it is taken, or it breaks a rule."""
    headers = signed_as(provider, body, now=time.time())
    return taken_or_named(service.post(f"/webhook/{provider}", data=body, headers=headers))


def taken_or_named(response: TestResponse) -> int:
    """Return the status: a delivery that is not taken is told which part breaks a rule."""
    if response.status_code != 200:
        assert response.status_code == 422
        assert response.json["detail"][0]["loc"][0] == "body"  # type: ignore[index]
    return response.status_code


HUGE = b"9" * 4000  # what Python still writes as text, and JSON parsers read


@given(payload=mutated(META))
def test_no_body_of_meta_causes_a_500(service: FlaskClient, payload: Any) -> None:
    answers(service, "meta", json.dumps(payload).encode())


@pytest.mark.parametrize("path", [b'"1749416383"', b"1.5"])
def test_no_number_of_any_length_causes_a_500(service: FlaskClient, path: bytes) -> None:
    body = json.dumps(META).encode()
    assert path in body

    assert answers(service, "meta", body.replace(path, HUGE)) == 200
    assert answers(service, "meta", body.replace(path, b"-1e308")) == 200
    assert answers(service, "meta", body.replace(path, b"253402300800")) == 200


@given(payload=mutated(json.loads(from_standard())))
def test_no_body_of_a_standard_sender_causes_a_500(service: FlaskClient, payload: Any) -> None:
    answers(service, "standard", json.dumps(payload).encode())


@given(body=st.binary(max_size=200) | st.just(from_twilio()).map(lambda form: form[::-1]))
@example(b"&".join([b"a"] * 20_000))
@example(b"MessageSid=%ff%00&From=whatsapp:%F0%9F%91%8D&To=&Body=%ED%A0%80")
@example(b"MessageSid=a&MessageSid=b&From=+1&To=+1&MessageStatus=")
def test_no_form_causes_a_500(service: FlaskClient, body: bytes) -> None:
    try:
        headers = signed_as("twilio", body, now=time.time())
    except BodyTooLarge:  # of more fields than are looked at
        headers = {"X-Twilio-Signature": "x"}
        assert service.post("/webhook/twilio", data=body, headers=headers).status_code == 413
    else:
        taken_or_named(service.post("/webhook/twilio", data=body, headers=headers))


@given(payload=mutated({"MessageSid": "SM1", "From": "+1", "To": "+2", "Body": "b"}))
@example({"MessageSid": "SM1", "From": [], "To": {}, "MessageStatus": [1]})
@example({"MessageSid": "SM1", "From": "+1", "To": "+2", "Body": 7})
def test_no_json_of_twilio_causes_a_500(service: FlaskClient, payload: Any) -> None:
    body = json.dumps(payload).encode()
    query = f"bodySHA256={hashlib.sha256(body).hexdigest()}"
    signed = f"{PUBLIC_URL}/webhook/twilio?{query}".encode()
    seal = base64.b64encode(hmac.digest(AUTH_TOKEN.encode(), signed, "sha1")).decode()

    url = f"/webhook/twilio?{query}"
    taken_or_named(service.post(url, data=body, headers={"X-Twilio-Signature": seal}))


WRITTEN = bytes([*range(0x21, 0x7F), *range(0xA1, 0x100)]).decode("latin-1")


@given(
    headers=st.dictionaries(
        st.sampled_from(
            ["X-Hub-Signature-256", "X-Twilio-Signature", "webhook-id", "webhook-timestamp",
             "webhook-signature"]
        ),
        st.text(WRITTEN, max_size=20),
    ),
    query=st.text(WRITTEN[:94], max_size=20),
)  # fmt: skip
def test_any_unsigned_delivery_is_refused(
    service: FlaskClient, headers: dict[str, str], query: str
) -> None:
    for provider in ("meta", "twilio", "standard"):
        url = f"/webhook/{provider}?bodySHA256={query}"
        assert service.post(url, data=b"{}", headers=headers).status_code == 401
    assert service.get(f"/webhook/meta?hub.mode=subscribe&{query}").status_code == 403


WORDS = st.sampled_from(
    ["messages", "messages", "entry", "changes", "value", "field", "metadata", "contacts", "id",
     "from", "threads", "statuses", "errors", "text", "timestamp", "type", "object"]
)  # fmt: skip
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9)
ANYTHING = st.recursive(
    LEAVES | st.sampled_from(["messages", "whatsapp_business_account"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=5),
    max_leaves=30,
)


def in_messages(node: object) -> list[dict[str, Any]]:
    """Return every object in any list with the name `messages`."""
    if isinstance(node, list):
        return [found for member in node for found in in_messages(member)]
    if not isinstance(node, dict):
        return []
    own = node.get("messages")
    found = [one for one in own if isinstance(one, dict)] if isinstance(own, list) else []
    return found + in_messages(list(node.values()))


@given(payload=st.dictionaries(WORDS, ANYTHING, max_size=6))
@example(payload={"messages": [{"id": "a", "messages": [{"id": "b"}]}, {"x": [1]}]})
@example(payload={"entry": [{"changes": [{"value": {"messages": [{"id": "\ud83d"}]}}]}]})
@example(payload={"messages": [{"id": "a", "type": "\udc00", "text": {"body": "\ud83d"}}]})
@example(payload={"messages": [{"id": "a", "x": 1e400, "from": "\udc00", "timestamp": 1e99}]})
def test_no_message_of_any_delivery_is_lost(service: FlaskClient, payload: Any) -> None:
    """Every object in any list `messages` is stored or in a dead letter."""
    body = json.dumps(payload).replace("NaN", "null").replace("Infinity", "1e999").encode()
    headers = signed_as("meta", body, now=0)

    path = service.application.config["SETTINGS"].database_path
    with closing(connect(path, "rw", timeout_s=5)) as db:
        for table in ("messages", "dead_letters", "tombstones"):
            db.execute(f"DELETE FROM {table}")
        response = service.post("/webhook/meta", data=body, headers=headers)
        letters = db.execute("SELECT body FROM dead_letters").fetchall()
        ids = {one for (one,) in db.execute("SELECT message_id FROM messages")}
    listed = service.get("/messages")
    read = [service.get(f"/messages/{quote(one, safe='')}").status_code for one in ids]

    assert (response.status_code, listed.status_code) == (200, 200)
    assert set(read) <= {200}
    if letters:
        assert letters == [(body,)]
    else:
        assert {f"meta:{one['id']}" for one in in_messages(payload)} == ids
