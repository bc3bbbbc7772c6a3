"""Deliveries in the shapes that the providers document, and what becomes of each.

Sources, for the structure: Meta, "messages webhook reference" and "Webhooks reference"; the
updates in the tests of github.com/david-lev/pywa (tests/data/updates); 360dialog, "Coexistence
Webhooks"; Twilio, "Twilio's request to your incoming message Webhook URL" and "Track the message
status of outbound messages"; github.com/standard-webhooks, spec 1.0.0. Names, numbers and texts
are invented.
"""

import json
from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

import pytest
from flask.testing import FlaskClient
from hypothesis import example, given
from hypothesis import strategies as st

from tests.builders import a_message, an_app, encode
from tests.conftest import Api
from tests.providers.samples import a_config, from_meta, signed_as
from webhook_api import close_app
from webhook_api.store.connections import connect

FILE = {"mime_type": "x/y", "sha256": "4654+8g=", "id": "65463453"}
CARD = {
    "name": {"formatted_name": "Bo Li", "first_name": "Bo"},
    "org": {"company": "ACME"},
    "phones": [{"phone": "+1 555-0100", "wa_id": "15550100"}, {"wa_id": "15550101"}],
    "emails": [{"email": "bo@example.com"}],
}
ITEM = {"product_retailer_id": "B1", "quantity": 3, "item_price": 30, "currency": "ILS"}
FLOW = '{"flow_token":"t","zip":"12345","n":2,"tags":["a","b"]}'
ADDRESS = '{"saved_address_id":"a1","values":{"city":"Pune","pin":411001}}'
PLACE = {"latitude": 37.44, "longitude": -122.16}
SYSTEM = {"body": "+1 changed to +2", "wa_id": "2", "type": "user_changed_number"}
REPLY = {"from": "15550783881", "id": "wamid.o"}


def interactive(kind: str, **reply: Any) -> dict[str, Any]:
    return {"interactive": {"type": kind, kind: reply}}


# Kind, members of the message, text.
WHATSAPP: list[tuple[str, dict[str, Any], str | None]] = [
    ("text", {"text": {"body": "Hi"}}, "Hi"),
    ("text", {"text": {"body": "Hi"}, "context": REPLY}, "Hi"),
    ("text", {"text": {"body": "Hi"}, "context": {"frequently_forwarded": True}}, "Hi"),
    ("text", {"text": {"body": "Hi"}, "referral": {"source_type": "ad", "body": "Sale"}}, "Hi"),
    ("text", {"text": {"body": "Hi"}, "group_id": "g1", "from_user_id": "US.1"}, "Hi"),
    ("text", {"text": {"body": "Hi"}, "context": {"referred_product": {"catalog_id": "1"}}}, "Hi"),
    ("image", {"image": {**FILE, "caption": "Look"}}, "Look"),
    ("image", {"image": FILE}, None),
    ("video", {"video": {**FILE, "caption": "Look"}}, "Look"),
    ("audio", {"audio": {**FILE, "voice": True}}, None),
    ("sticker", {"sticker": {**FILE, "animated": False}}, None),
    ("document", {"document": {**FILE, "caption": "Bill", "filename": "bill.pdf"}}, "Bill"),
    ("document", {"document": {**FILE, "filename": "bill.pdf"}}, "bill.pdf"),
    ("reaction", {"reaction": {"message_id": "wamid.o", "emoji": "😮"}}, "😮"),
    ("reaction", {"reaction": {"message_id": "wamid.o"}}, None),
    ("location", {"location": PLACE}, "37.44, -122.16"),
    ("location", {"location": {"latitude": "37.5", "longitude": "-1"}}, "37.5, -1"),
    ("location", {"location": {**PLACE, "name": "HQ", "address": "1 Way"}},
     "HQ, 1 Way, 37.44, -122.16"),
    ("contacts", {"contacts": [CARD, {"name": {"first_name": "Al"}}]},
     "Bo Li, ACME, +1 555-0100, 15550101, bo@example.com; Al"),
    ("order", {"order": {"catalog_id": "1", "text": "", "product_items": [ITEM, ITEM]}},
     "3 x B1, 3 x B1"),
    ("order", {"order": {"catalog_id": "1", "text": "soon", "product_items": [ITEM]}}, "soon"),
    ("button", {"button": {"payload": "p", "text": "Yes"}, "context": REPLY}, "Yes"),
    ("interactive", interactive("button_reply", id="1", title="Yes"), "Yes"),
    ("interactive", interactive("list_reply", id="1", title="Mail", description="1 day"), "Mail"),
    ("interactive", interactive("nfm_reply", name="flow", body="Sent", response_json=FLOW),
     'zip: 12345, n: 2, tags: ["a","b"]'),
    ("interactive", interactive("nfm_reply", name="address_message", response_json=ADDRESS),
     'saved_address_id: a1, values: {"city":"Pune","pin":411001}'),
    ("interactive", interactive("nfm_reply", body="Sent", response_json="{}"), "Sent"),
    ("interactive", interactive("call_permission_reply", response="accept"), "accept"),
    ("interactive", interactive("button_reply", id="yes"), "yes"),
    ("interactive", interactive("list_reply", id="yes"), "yes"),
    ("interactive", {}, None),
    ("button", {"button": {"payload": "p"}}, "p"),
    ("text", {"text": "Hi"}, "Hi"),
    ("location", {"location": {"url": "https://e/1"}}, "https://e/1"),
    ("system", {"system": SYSTEM}, "+1 changed to +2"),
    ("system", {"system": {"type": "user_changed_user_id", "user_id": "MX.2"}}, None),
    ("system", {"identity": {"hash": "x"}, "system": {"body": "New phone"}}, "New phone"),
    ("edit", {"edit": {"original_message_id": "o", "message": {"text": {"body": "Tue"}}}}, "Tue"),
    ("edit", {"edit": {"message": {"type": "image", "image": {**FILE, "caption": "c"}}}}, "c"),
    ("revoke", {"revoke": {"original_message_id": "wamid.o"}}, None),
    ("request_welcome", {}, None),
    ("unsupported", {"errors": [{"code": 131051, "title": "Message type unknown"}]}, None),
    ("unknown", {"errors": [{"code": 131060}], "unsupported": {"type": "poll"}}, None),
    ("media_placeholder", {}, None),
]  # fmt: skip

INBOUND = {
    "MessageSid": "SM1",
    "From": "+14155551234",
    "To": "+18005551212",
    "SmsStatus": "received",
}
WHATSAPP_USER = {**INBOUND, "From": "whatsapp:+14155551234", "ProfileName": "Ana", "WaId": "1415"}
MEDIA = {"NumMedia": "2", "MediaUrl0": "https://e/0", "MediaContentType0": "image/jpeg",
         "MediaUrl1": "https://e/1", "MediaContentType1": "text/vcard"}  # fmt: skip
TWILIO: list[tuple[str | None, dict[str, str], str | None]] = [
    ("text", {**INBOUND, "Body": "Hi", "NumMedia": "0", "FromCity": "X"}, "Hi"),
    (None, {**INBOUND, "Body": ""}, None),
    ("image", {**INBOUND, "Body": "", **MEDIA}, "https://e/0 https://e/1"),
    ("image", {**INBOUND, "Body": "Look", **MEDIA}, "Look"),
    ("text", {**WHATSAPP_USER, "MessageType": "text", "Body": "Hi", "Forwarded": "true"}, "Hi"),
    ("location", {**WHATSAPP_USER, "MessageType": "location", "Body": "", "Latitude": "37.5",
     "Longitude": "-122", "Label": "HQ", "Address": "1 Way"}, "HQ, 1 Way, 37.5, -122"),
    ("button", {**WHATSAPP_USER, "MessageType": "button", "ButtonText": "Yes",
     "ButtonPayload": "p"}, "Yes"),
    ("interactive", {**WHATSAPP_USER, "MessageType": "interactive", "ListTitle": "Mail",
     "ListId": "1"}, "Mail"),
    ("interactive", {**WHATSAPP_USER, "MessageType": "interactive", "Body": "", "FlowData": FLOW},
     'zip: 12345, n: 2, tags: ["a","b"]'),
    ("text", {**INBOUND, "Body": "Hi", "ReferralSourceType": "ad", "ReferralBody": "Sale"}, "Hi"),
    ("text", {**INBOUND, "Body": "Hi", "OriginalRepliedMessageSid": "SM0"}, "Hi"),
    (None, {**INBOUND, "Contacts": "Bo Li"}, "Bo Li"),
    ("text", {**INBOUND, "SmsStatus": "receiving", "Body": "Hi"}, "Hi"),
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

ENVELOPE = {"type": "message.received", "timestamp": "2025-01-15T12:00:00.5+02:00"}
TIMELESS = {name: value for name, value in a_message().items() if name != "ts"}
STANDARD: list[tuple[str | None, dict[str, Any], str]] = [
    ("message.received", {**ENVELOPE, "data": a_message()}, "2025-01-15T10:00:00Z"),
    ("message.received", {**ENVELOPE, "data": TIMELESS}, "2025-01-15T10:00:00.500000Z"),
    (None, {"timestamp": 1736935200, "data": TIMELESS}, "2025-01-15T10:00:00Z"),
    (None, a_message(), "2025-01-15T10:00:00Z"),
    ("sms", {"type": "sms", "data": a_message(ts="2025-01-15 10:00")}, "2025-01-15T10:00:00Z"),
]

CHANGES = [
    ("account_update", {"event": "DISABLED_UPDATE", "ban_info": {}},
     "account_update.DISABLED_UPDATE"),
    ("account_review_update", {"decision": "APPROVED"}, "account_review_update"),
    ("message_template_status_update", {"event": "REJECTED"},
     "message_template_status_update.REJECTED"),
    ("message_template_quality_update", {"new_quality_score": "RED"},
     "message_template_quality_update"),
    ("template_category_update", {"new_category": "MARKETING"}, "template_category_update"),
    ("phone_number_quality_update", {"event": "DOWNGRADE"},
     "phone_number_quality_update.DOWNGRADE"),
    ("user_preferences", {"user_preferences": [{"value": "stop"}]}, "user_preferences"),
    ("calls", {"calls": [{"id": "wacid.1", "event": "connect"}]}, "calls"),
    ("smb_app_state_sync", {"state_sync": [{"type": "contact"}]}, "smb_app_state_sync"),
    ("smb_message_echoes", {"message_echoes": [{"from": "1", "to": "2"}]}, "smb_message_echoes"),
    ("history", {"history": [{"errors": [{"code": 2593109}]}]}, "history"),
    ("flows", {"event": "ENDPOINT_ERROR_RATE"}, "flows.ENDPOINT_ERROR_RATE"),
]  # fmt: skip


def test_there_are_at_least_forty() -> None:
    assert len([*WHATSAPP, *TWILIO, *RECEIPTS, *STANDARD, *CHANGES]) >= 40


class Stored(NamedTuple):
    kind: str | None
    text: str | None
    payload: str


def stored(rows: Callable[..., Any]) -> Stored:
    [row] = rows("SELECT kind, text, payload FROM messages")
    assert rows("SELECT count(*) FROM dead_letters") == [(0,)]
    return Stored(*row)


@pytest.mark.parametrize(("kind", "members", "text"), WHATSAPP)
def test_each_kind_of_whatsapp(
    api: Api, kind: str, members: dict[str, Any], text: str | None
) -> None:
    message = {"from": "1415", "id": "wamid.1", "timestamp": "1", "type": kind, **members}
    contact = {"profile": {"name": "Ana"}, "wa_id": "1415", "user_id": "US.1"}

    assert api.deliver("meta", from_meta(message, contacts=[contact])).status_code == 200

    found = stored(api.rows)
    assert found[:2] == (kind, text)
    assert json.loads(found.payload) == {**message, "contact": contact}


@pytest.mark.parametrize(("kind", "fields", "text"), TWILIO)
def test_each_kind_of_twilio(
    api: Api, kind: str | None, fields: dict[str, str], text: str | None
) -> None:
    assert api.deliver("twilio", urlencode(fields).encode()).status_code == 200

    found = stored(api.rows)
    assert found[:2] == (kind, text)
    assert json.loads(found.payload) == fields


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
        ("client:ana+1", "client:ana+1"),
    ],
)  # fmt: skip
def test_each_address_of_twilio(api: Api, sent: str, address: str) -> None:
    api.deliver("twilio", urlencode({**INBOUND, "From": sent, "To": sent, "Body": "Hi"}).encode())

    assert api.rows("SELECT from_msisdn, to_msisdn FROM messages") == [(address, address)]


@pytest.mark.parametrize(("kind", "body", "ts"), STANDARD)
def test_each_form_of_a_standard_message(
    api: Api, kind: str | None, body: dict[str, Any], ts: str
) -> None:
    assert api.deliver("standard", encode(body)).status_code == 200

    assert stored(api.rows)[:2] == (kind, "Hello")
    assert api.rows("SELECT ts FROM messages") == [(ts,)]
    assert json.loads(stored(api.rows).payload) == body


@pytest.mark.parametrize(("field", "value", "event"), CHANGES)
def test_each_other_field_of_meta(api: Api, field: str, value: dict[str, Any], event: str) -> None:
    body = json.loads(from_meta(**value))
    body["entry"][0]["changes"][0]["field"] = field

    assert api.deliver("meta", encode(body)).status_code == 200

    assert api.rows("SELECT count(*) FROM messages") == [(0,)]
    assert api.logged()[0]["events"] == {event: 1}


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


class Service(NamedTuple):
    client: FlaskClient
    rows: Any


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Any:
    config = a_config(tmp_path_factory.mktemp("any"))
    app = an_app(config)
    writer = connect(config.database_path, "rw", timeout_s=5)
    yield Service(app.test_client(), writer)
    writer.close()
    close_app(app)


@given(payload=st.dictionaries(WORDS, ANYTHING, max_size=6))
@example(payload={"messages": [{"id": "a", "messages": [{"id": "b"}]}, {"x": [1]}]})
@example(payload={"entry": [{"changes": [{"value": {"messages": [{"id": "\ud83d"}]}}]}]})
@example(payload={"messages": [{"id": "a", "type": "\udc00", "text": {"body": "\ud83d"}}]})
@example(payload={"messages": [{"id": "a", "x": 1e400, "from": "\udc00", "timestamp": 1e99}]})
def test_no_message_of_any_delivery_is_lost(service: Service, payload: Any) -> None:
    """Every object in any list `messages` is stored or in a dead letter."""
    body = json.dumps(payload).replace("NaN", "null").replace("Infinity", "1e999").encode()
    headers = signed_as("meta", body, now=0)

    response = service.client.post("/webhook/meta", data=body, headers=headers)
    letters = service.rows.execute("SELECT body FROM dead_letters").fetchall()
    ids = {one for (one,) in service.rows.execute("SELECT message_id FROM messages")}
    listed = service.client.get("/messages")
    read = [service.client.get(f"/messages/{quote(one, safe='')}").status_code for one in ids]
    service.rows.execute("DELETE FROM messages")
    service.rows.execute("DELETE FROM dead_letters")
    service.rows.execute("DELETE FROM tombstones")

    assert (response.status_code, listed.status_code) == (200, 200)
    assert set(read) <= {200}
    if letters:
        assert letters == [(body,)]
    else:
        assert {f"meta:{one['id']}" for one in in_messages(payload)} == ids
