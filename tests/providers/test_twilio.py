"""POST /webhook/twilio: repeats, and what is signed."""

import base64
import hashlib
import hmac
import json
import time
from typing import Any
from urllib.parse import urlencode

import pytest
from flask.testing import FlaskClient

from tests.builders import encode
from tests.conftest import Logged, Rows
from tests.providers.conftest import Deliver
from tests.providers.samples import AUTH_TOKEN, PUBLIC_URL, from_twilio

USER = {"MessageSid": "SM1", "From": "+14155551234", "To": "+18005551212"}
ADDED = {"EventType": "onMessageAdded", "MessageSid": "SM1", "ConversationSid": "CH1",
         "Author": "whatsapp:+14155551234"}  # fmt: skip


def deliver_json(client: FlaskClient, body: bytes) -> int:
    url = f"/webhook/twilio?bodySHA256={hashlib.sha256(body).hexdigest()}"
    seal = hmac.digest(AUTH_TOKEN.encode(), f"{PUBLIC_URL}{url}".encode(), "sha1")
    headers = {
        "X-Twilio-Signature": base64.b64encode(seal).decode(),
        "Content-Type": "application/json",
    }
    return client.post(url, data=body, headers=headers).status_code


def test_a_repeat_of_twilio_is_no_conflict_though_it_comes_later(
    deliver: Deliver, logged: Logged
) -> None:
    for _ in range(2):
        assert deliver("twilio", from_twilio()).status_code == 200
        time.sleep(0.002)

    assert [line["result"] for line in logged()] == ["created", "duplicate"]
    assert "conflict" not in logged()[-1]
    assert logged()[-1]["message_id"] == "twilio:SM1f0e8ae6ade43cb3c0ce4525424e404f"


def test_the_urls_query_is_part_of_what_twilio_signs(client: FlaskClient) -> None:
    """The URL that an operator enters at Twilio may have one."""
    # node: createHmac("sha1", "auth-token").update(url + "?a=%20b" + sorted fields)
    body = b"MessageSid=SM1&From=%2B1415&To=%2B1800&Body="
    headers = {"X-Twilio-Signature": "kTZc9MLqY8u0y9nufRdSSK17+Qw="}

    assert client.post("/webhook/twilio?a=%20b", data=body, headers=headers).status_code == 200
    assert client.post("/webhook/twilio/?a=%20b", data=body, headers=headers).status_code == 401
    assert client.post("/webhook/twilio?a=+b", data=body, headers=headers).status_code == 401
    assert client.post("/webhook/twilio", data=body, headers=headers).status_code == 401


def test_a_slash_at_the_end_of_the_url_is_part_of_what_twilio_signs(client: FlaskClient) -> None:
    # printf %s URLFrom+1415MessageSidSM1To+1800 | openssl dgst -sha1 -hmac auth-token -binary
    body = b"MessageSid=SM1&From=%2B1415&To=%2B1800"
    slash = {"X-Twilio-Signature": "BtJPuU9PxZl43dhPU6xdJLGH8Bw="}
    plain = {"X-Twilio-Signature": "o/mPGADXg9uhXUzaNC2rsuqlO0w="}

    assert client.post("/webhook/twilio/", data=body, headers=slash).status_code == 200
    assert client.post("/webhook/twilio/", data=body, headers=plain).status_code == 401
    assert client.post("/webhook/twilio", data=body, headers=slash).status_code == 401
    assert client.post("/webhook/twilio", data=body, headers=plain).status_code == 200


@pytest.mark.parametrize(
    "fields",
    [
        {**USER, "NumMedia": "1", "MediaUrl0": "https://e/0"},
        {**USER, "NumMedia": "1"},
        {**USER, "Latitude": "1", "Longitude": "2"},
        {**USER, "SmsStatus": "received ", "NumMedia": "0"},
        {**USER, "SmsStatus": "RECEIVED"},
        {**USER, "SmsStatus": "of_next_year", "Body": "Hi"},
        {**ADDED, "Body": "Hi", "Source": "WHATSAPP"},
        {**ADDED, "Body": "", "Media": "[]"},
    ],
)
def test_what_has_a_users_content_is_a_message(
    deliver: Deliver, rows: Rows, fields: dict[str, str]
) -> None:
    assert deliver("twilio", urlencode(fields).encode()).status_code == 200

    assert rows("SELECT message_id, from_msisdn FROM messages") == [("twilio:SM1", "+14155551234")]


def test_what_we_sent_in_a_conversation_is_counted(
    deliver: Deliver, rows: Rows, logged: Logged
) -> None:
    deliver("twilio", urlencode({**ADDED, "Body": "Hi", "Source": "API"}).encode())

    assert rows("SELECT count(*) FROM messages") == rows("SELECT count(*) FROM dead_letters")
    assert logged()[0]["events"] == {"onMessageAdded": 1}


INBOUND = {"type": "com.twilio.messaging.inbound-message.received", "data": {"numMedia": 1}}


@pytest.mark.parametrize(
    "payload",
    [
        INBOUND,
        [INBOUND],
        {"type": "x", "data": {"from": "+1", "body": "Hi"}},
        {"data": {"Body": "Hi"}},
        {"messageSid": "SM1", "body": "Hi"},
        {"MessageSid": 7, "SmsStatus": ["received"], "Body": {"x": 1}},
        {**USER, "EventType": "onMessageUpdated", "Body": "Hi"},
        5,
        "Hi",
        None,
    ],
)
def test_json_in_another_format_is_kept(client: FlaskClient, rows: Rows, payload: Any) -> None:
    assert deliver_json(client, encode(payload)) == 200

    assert rows("SELECT body FROM dead_letters") == [(encode(payload),)]


def test_json_with_values_of_other_types_is_a_message(client: FlaskClient, rows: Rows) -> None:
    fields = {**USER, "SmsStatus": ["received"], "Body": 7, "NumMedia": 0}

    assert deliver_json(client, encode(fields)) == 200

    [(payload,)] = rows("SELECT payload FROM messages")
    assert json.loads(payload) == fields


def test_the_payload_has_all_values_of_a_name(deliver: Deliver, rows: Rows) -> None:
    deliver("twilio", urlencode([*USER.items(), ("Body", "one"), ("Body", "two")]).encode())

    [(payload,)] = rows("SELECT payload FROM messages")
    assert json.loads(payload) == {**USER, "Body": ["one", "two"]}


def test_a_form_with_more_fields_than_can_be_checked_is_too_large(
    client: FlaskClient, logged: Logged
) -> None:
    form = "&".join(f"f{number}=" for number in range(10_001))

    response = client.post("/webhook/twilio", data=form, headers={"X-Twilio-Signature": "x"})

    assert (response.status_code, response.json) == (
        413,
        {"detail": "the form has more than 10000 fields"},
    )
    assert logged()[-1]["result"] == "too_large"


def test_a_form_may_have_thousands_of_fields(deliver: Deliver, rows: Rows) -> None:
    fields = {**USER, "Body": "Hi", **{f"Extra{number}": "" for number in range(5000)}}

    assert deliver("twilio", urlencode(fields).encode()).status_code == 200
    assert rows("SELECT text FROM messages") == [("Hi",)]
