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
from tests.conftest import Api
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


def test_a_repeat_of_twilio_is_no_conflict_though_it_comes_later(api: Api) -> None:
    for _ in range(2):
        assert api.deliver("twilio", from_twilio()).status_code == 200
        time.sleep(0.002)

    assert [line["result"] for line in api.logged()] == ["created", "duplicate"]
    assert "conflict" not in api.logged()[-1]
    assert api.logged()[-1]["message_id"] == "twilio:SM1f0e8ae6ade43cb3c0ce4525424e404f"


def test_the_urls_query_is_part_of_what_twilio_signs(api: Api) -> None:
    """The URL that an operator enters at Twilio may have one."""
    # node: createHmac("sha1", "auth-token").update(url + "?a=%20b" + sorted fields)
    body = b"MessageSid=SM1&From=%2B1415&To=%2B1800&Body="
    headers = {"X-Twilio-Signature": "kTZc9MLqY8u0y9nufRdSSK17+Qw="}

    assert api.client.post("/webhook/twilio?a=%20b", data=body, headers=headers).status_code == 200
    assert api.client.post("/webhook/twilio/?a=%20b", data=body, headers=headers).status_code == 401
    assert api.client.post("/webhook/twilio?a=+b", data=body, headers=headers).status_code == 401
    assert api.client.post("/webhook/twilio", data=body, headers=headers).status_code == 401


def test_a_slash_at_the_end_of_the_url_is_part_of_what_twilio_signs(api: Api) -> None:
    # printf %s URLFrom+1415MessageSidSM1To+1800 | openssl dgst -sha1 -hmac auth-token -binary
    body = b"MessageSid=SM1&From=%2B1415&To=%2B1800"
    slash = {"X-Twilio-Signature": "BtJPuU9PxZl43dhPU6xdJLGH8Bw="}
    plain = {"X-Twilio-Signature": "o/mPGADXg9uhXUzaNC2rsuqlO0w="}

    assert api.client.post("/webhook/twilio/", data=body, headers=slash).status_code == 200
    assert api.client.post("/webhook/twilio/", data=body, headers=plain).status_code == 401
    assert api.client.post("/webhook/twilio", data=body, headers=slash).status_code == 401
    assert api.client.post("/webhook/twilio", data=body, headers=plain).status_code == 200


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
def test_what_has_a_users_content_is_a_message(api: Api, fields: dict[str, str]) -> None:
    assert api.deliver("twilio", urlencode(fields).encode()).status_code == 200

    assert api.rows("SELECT message_id, from_msisdn FROM messages") == [
        ("twilio:SM1", "+14155551234")
    ]


def test_what_we_sent_in_a_conversation_is_counted(api: Api) -> None:
    api.deliver("twilio", urlencode({**ADDED, "Body": "Hi", "Source": "API"}).encode())

    assert api.rows("SELECT count(*) FROM messages") == api.rows(
        "SELECT count(*) FROM dead_letters"
    )
    assert api.logged()[0]["events"] == {"onMessageAdded": 1}


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
def test_json_in_another_format_is_kept(api: Api, payload: Any) -> None:
    assert deliver_json(api.client, encode(payload)) == 200

    assert api.rows("SELECT body FROM dead_letters") == [(encode(payload),)]


def test_events_of_a_stream_without_a_message_are_counted(api: Api) -> None:
    delivered = {"type": "com.twilio.messaging.message.delivered", "data": {"messageSid": "SM1"}}
    failed = {"type": "com.twilio.messaging.message.failed", "data": {"errorCode": 30003}}

    assert deliver_json(api.client, encode([delivered, failed])) == 200
    assert deliver_json(api.client, encode(delivered)) == 200

    assert api.rows("SELECT count(*) FROM dead_letters") == [(0,)]
    first, second = api.logged()
    assert first["events"] == {delivered["type"]: 1, failed["type"]: 1}
    assert (first["level"], first["error_codes"]) == ("WARNING", ["30003"])
    assert second["events"] == {delivered["type"]: 1}


def test_json_with_values_of_other_types_is_a_message(api: Api) -> None:
    fields = {**USER, "SmsStatus": ["received"], "Body": 7, "NumMedia": 0}

    assert deliver_json(api.client, encode(fields)) == 200

    [(payload,)] = api.rows("SELECT payload FROM messages")
    assert json.loads(payload) == fields


def test_the_payload_has_all_values_of_a_name(api: Api) -> None:
    api.deliver("twilio", urlencode([*USER.items(), ("Body", "one"), ("Body", "two")]).encode())

    [(payload,)] = api.rows("SELECT payload FROM messages")
    assert json.loads(payload) == {**USER, "Body": ["one", "two"]}


def test_a_form_may_have_thousands_of_fields(api: Api) -> None:
    fields = {**USER, "Body": "Hi", **{f"Extra{number}": "" for number in range(5000)}}

    assert api.deliver("twilio", urlencode(fields).encode()).status_code == 200
    assert api.rows("SELECT text FROM messages") == [("Hi",)]


FLOW = '{"flow_token":"t","zip":"12345","n":2,"tags":["a","b"]}'
CAME = {
    "MessageSid": "SM1",
    "From": "+14155551234",
    "To": "+18005551212",
    "SmsStatus": "received",
}
WHATSAPP_USER = {**CAME, "From": "whatsapp:+14155551234", "ProfileName": "Ana", "WaId": "1415"}
MEDIA = {"NumMedia": "2", "MediaUrl0": "https://e/0", "MediaContentType0": "image/jpeg",
         "MediaUrl1": "https://e/1", "MediaContentType1": "text/vcard"}  # fmt: skip
TWILIO: list[tuple[str | None, dict[str, str], str | None]] = [
    ("text", {**CAME, "Body": "Hi", "NumMedia": "0", "FromCity": "X"}, "Hi"),
    (None, {**CAME, "Body": ""}, None),
    ("image", {**CAME, "Body": "", **MEDIA}, "https://e/0 https://e/1"),
    ("image", {**CAME, "Body": "Look", **MEDIA}, "Look"),
    ("text", {**WHATSAPP_USER, "MessageType": "text", "Body": "Hi", "Forwarded": "true"}, "Hi"),
    ("location", {**WHATSAPP_USER, "MessageType": "location", "Body": "", "Latitude": "37.5",
     "Longitude": "-122", "Label": "HQ", "Address": "1 Way"}, "HQ, 1 Way, 37.5, -122"),
    ("button", {**WHATSAPP_USER, "MessageType": "button", "ButtonText": "Yes",
     "ButtonPayload": "p"}, "Yes"),
    ("interactive", {**WHATSAPP_USER, "MessageType": "interactive", "ListTitle": "Mail",
     "ListId": "1"}, "Mail"),
    ("interactive", {**WHATSAPP_USER, "MessageType": "interactive", "Body": "", "FlowData": FLOW},
     'zip: 12345, n: 2, tags: ["a","b"]'),
    ("text", {**CAME, "Body": "Hi", "ReferralSourceType": "ad", "ReferralBody": "Sale"}, "Hi"),
    ("text", {**CAME, "Body": "Hi", "OriginalRepliedMessageSid": "SM0"}, "Hi"),
    (None, {**CAME, "Contacts": "Bo Li"}, "Bo Li"),
    (None, {**CAME, "Contacts": '[{"name": {"formatted_name": "Bo Li"}}]'}, "Bo Li"),
    (None, {**ADDED, "Body": "", "Media": '[{"Sid": "ME1", "Filename": "cat.jpg"}]'}, "cat.jpg"),
    ("text", {**CAME, "SmsStatus": "receiving", "Body": "Hi"}, "Hi"),
    ("text", {"SmsSid": "SM2", "MessageStatus": "received", "From": "+1", "Body": "Hi"}, "Hi"),
]  # fmt: skip
SENT = {"MessageSid": "SM1", "From": "+18005551212", "To": "+14155551234"}
RECEIPTS = [
    ({**SENT, "MessageStatus": "delivered", "SmsStatus": "delivered"}, "delivered"),
    ({**SENT, "SmsStatus": "sent", "RawDlrDoneDate": "2501151000"}, "sent"),
    ({**SENT, "MessageStatus": "failed", "ErrorCode": "30003"}, "failed"),
    ({**SENT, "MessageStatus": "read", "EventType": "READ"}, "read"),
    ({"MessageSid": "SM1", "MessageStatus": "undelivered", "ErrorCode": "63024"}, "undelivered"),
]


@pytest.mark.parametrize(("kind", "fields", "text"), TWILIO)
def test_each_kind_of_twilio(
    api: Api, kind: str | None, fields: dict[str, str], text: str | None
) -> None:
    assert api.deliver("twilio", urlencode(fields).encode()).status_code == 200

    [(*found, payload)] = api.rows("SELECT kind, text, payload FROM messages")
    assert found == [kind, text]
    assert json.loads(payload) == fields
    assert api.rows("SELECT count(*) FROM dead_letters") == [(0,)]


@pytest.mark.parametrize(("fields", "status"), RECEIPTS)
def test_each_receipt_of_twilio(api: Api, fields: dict[str, str], status: str) -> None:
    assert api.deliver("twilio", urlencode(fields).encode()).status_code == 200

    assert api.rows("SELECT count(*) FROM messages") == [(0,)]
    line = api.logged()[0]
    assert line["statuses"] == {status: 1}
    assert line["level"] == ("WARNING" if "ErrorCode" in fields else "INFO")
    assert line.get("error_codes", []) == [fields[n] for n in fields if n == "ErrorCode"]


@pytest.mark.parametrize(
    ("sent", "address"),
    [
        ("+14155551234", "+14155551234"), ("whatsapp:+14155551234", "+14155551234"),
        ("WhatsApp:+14155551234", "+14155551234"), ("whatsapp:14155551234", "+14155551234"),
        ("rcs:+14155551234", "+14155551234"), ("RCS:+1 (415) 555-1234", "+14155551234"),
        ("rcs:brand_acme_agent", "rcs:brand_acme_agent"), ("messenger:77", "messenger:77"),
        ("messenger:100012345678901", "messenger:100012345678901"), ("68849", "68849"),
        ("SUPPORT", "SUPPORT"), ("whatsapp:US.1349", "whatsapp:US.1349"), ("", "unknown"),
        ("client:ana+1", "client:ana+1"), ("whatsapp:", "unknown"),
    ],
)  # fmt: skip
def test_each_address_of_twilio(api: Api, sent: str, address: str) -> None:
    api.deliver("twilio", urlencode({**CAME, "From": sent, "To": sent, "Body": "Hi"}).encode())

    assert api.rows("SELECT from_msisdn, to_msisdn FROM messages") == [(address, address)]


def test_a_form_with_more_fields_than_can_be_checked_is_too_large(api: Api) -> None:
    form = "&".join(f"f{number}=" for number in range(10_001))

    response = api.client.post("/webhook/twilio", data=form, headers={"X-Twilio-Signature": "x"})

    assert (response.status_code, response.json) == (
        413,
        {"detail": "the form has more than 10000 fields"},
    )
    assert api.logged()[-1]["result"] == "too_large"
