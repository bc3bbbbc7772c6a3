"""POST /webhook/standard: where the message is in a body, and whose it is."""

import base64
import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests.builders import a_message, an_app, encode
from tests.conftest import Api
from tests.providers.samples import WHSEC, a_config, from_standard
from webhook_api import close_app
from webhook_api.providers import standard


def test_a_standard_message_is_the_data_or_the_body(api: Api) -> None:
    flat = encode(a_message(message_id="flat", data="is no object"))
    nameless = encode({key: value for key, value in a_message().items() if key != "message_id"})

    for body in (flat, nameless, nameless):
        assert api.deliver("standard", body, webhook_id="msg_7").status_code == 200

    assert api.rows("SELECT message_id FROM messages") == [("standard:flat",), ("standard:msg_7",)]


def test_data_in_a_text_is_read(api: Api) -> None:
    data = json.dumps(a_message(message_id="a"))

    api.deliver("standard", encode({"type": "message.received", "data": data}))

    assert api.rows("SELECT message_id FROM messages") == [("standard:a",)]


@pytest.mark.parametrize(
    "body",
    [
        {"type": "batch", "data": [a_message()]},
        {"type": "batch", "data": {"messages": [a_message()]}},
        {"type": "x", "data": {"message": {"text": "Hi"}}},
        {"type": "x", "data": json.dumps([a_message()])},
        {"type": "x", "payload": a_message()},
        *(
            {name: event, "data": {"sender": "+1", "content": "Hi"}}
            for name in ("type", "event")
            for event in (
                "inbound.message", "incoming_message", "whatsapp.inbound", "mms.received",
                "chat.received", "received.sms", "text.received", "conversation.message.new",
                "message", "sms", "messageCreated", "SMS_INBOUND",
            )
        ),
    ],
)  # fmt: skip
def test_a_message_in_another_format_is_kept(api: Api, body: dict[str, Any]) -> None:
    assert api.deliver("standard", encode(body)).status_code == 200

    assert api.rows("SELECT reason, body FROM dead_letters") == [
        ("a message in another format", encode(body))
    ]


@pytest.mark.parametrize("event", ["message.delivered", "sms.status", "message.test", "context.x"])
def test_what_becomes_of_a_sent_message_is_counted(api: Api, event: str) -> None:
    api.deliver("standard", encode({"type": event, "data": {"id": "1", "ok": True}}))

    assert api.rows("SELECT count(*) FROM dead_letters") == [(0,)]
    assert api.logged()[0]["events"] == {event: 1}


def test_a_status_that_names_its_message_is_not_that_message(api: Api) -> None:
    body = {"type": "sms.status", "data": {"message_id": "1", "status": "failed"}}

    api.deliver("standard", encode(body))

    assert api.logged()[0]["events"] == {"sms.status": 1}
    assert api.rows("SELECT count(*) FROM messages") == [(0,)]


KEYS = {"shop": b"key of a shop", "old-shop": b"its key before", "bank": b"key of a bank"}


def named(name: str, key: bytes) -> str:
    return f"{name}=whsec_{base64.b64encode(key).decode()}"


def test_an_id_belongs_to_the_sender_whose_name_its_secret_has(tmp_path: Path, api: Api) -> None:
    secrets = [
        named("shop", KEYS["shop"]), named("shop", KEYS["old-shop"]), WHSEC,
        named("bank", KEYS["bank"]),
    ]  # fmt: skip
    app = an_app(a_config(tmp_path, STANDARD_WEBHOOKS_SECRET=" ".join(secrets)))
    unnamed = base64.b64decode(WHSEC.removeprefix("whsec_"))
    body = from_standard(message_id="1")
    for key in (unnamed, *KEYS.values(), unnamed):
        headers = standard.sign_delivery(key, "msg_1", int(time.time()), body)
        sent = {**headers, "Webhook-Sender": "bank"}  # which is not signed
        assert (
            app.test_client().post("/webhook/standard", data=body, headers=sent).status_code == 200
        )
    metrics = app.test_client().get("/metrics").text
    close_app(app)

    stored = api.rows("SELECT message_id, provider FROM messages ORDER BY id")

    assert stored == [
        ("standard:1", "standard"),
        ("standard/shop:1", "standard"),
        ("standard/bank:1", "standard"),
    ]
    # A secret is an older one only beside another of the same name.
    series = 'webhook_signatures_total{key="previous",provider="standard"} 1.0'
    assert series in metrics


ENVELOPE = {"type": "message.received", "timestamp": "2025-01-15T12:00:00.5+02:00"}
TIMELESS = {name: value for name, value in a_message().items() if name != "ts"}
STANDARD: list[tuple[str | None, dict[str, Any], str]] = [
    ("message.received", {**ENVELOPE, "data": a_message()}, "2025-01-15T10:00:00Z"),
    ("message.received", {**ENVELOPE, "data": TIMELESS}, "2025-01-15T10:00:00.500000Z"),
    (None, {"timestamp": 1736935200, "data": TIMELESS}, "2025-01-15T10:00:00Z"),
    (None, a_message(), "2025-01-15T10:00:00Z"),
    ("sms", {"type": "sms", "data": a_message(ts="2025-01-15 10:00")}, "2025-01-15T10:00:00Z"),
]


@pytest.mark.parametrize(("kind", "body", "ts"), STANDARD)
def test_each_form_of_a_standard_message(
    api: Api, kind: str | None, body: dict[str, Any], ts: str
) -> None:
    assert api.deliver("standard", encode(body)).status_code == 200

    [(*found, payload)] = api.rows("SELECT kind, text, ts, payload FROM messages")
    assert found == [kind, "Hello", ts]
    assert json.loads(payload) == body
    assert api.rows("SELECT count(*) FROM dead_letters") == [(0,)]
