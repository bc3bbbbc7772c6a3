"""POST /webhook/standard: where the message is in a body."""

import json
from typing import Any

import pytest

from tests.builders import a_message, encode
from tests.conftest import Logged, Rows
from tests.providers.conftest import Deliver


def test_a_standard_message_is_the_data_or_the_body(deliver: Deliver, rows: Rows) -> None:
    flat = encode(a_message(message_id="flat", data="is no object"))
    nameless = encode({key: value for key, value in a_message().items() if key != "message_id"})

    for body in (flat, nameless, nameless):
        assert deliver("standard", body, webhook_id="msg_7").status_code == 200

    assert rows("SELECT message_id FROM messages") == [("standard:flat",), ("standard:msg_7",)]


def test_data_in_a_text_is_read(deliver: Deliver, rows: Rows) -> None:
    data = json.dumps(a_message(message_id="a"))

    deliver("standard", encode({"type": "message.received", "data": data}))

    assert rows("SELECT message_id FROM messages") == [("standard:a",)]


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
def test_a_message_in_another_format_is_kept(
    deliver: Deliver, rows: Rows, body: dict[str, Any]
) -> None:
    assert deliver("standard", encode(body)).status_code == 200

    assert rows("SELECT reason, body FROM dead_letters") == [
        ("a message in another format", encode(body))
    ]


@pytest.mark.parametrize("event", ["message.delivered", "sms.status", "message.test", "context.x"])
def test_what_becomes_of_a_sent_message_is_counted(
    deliver: Deliver, rows: Rows, logged: Logged, event: str
) -> None:
    deliver("standard", encode({"type": event, "data": {"id": "1", "ok": True}}))

    assert rows("SELECT count(*) FROM dead_letters") == [(0,)]
    assert logged()[0]["events"] == {event: 1}
