"""POST /webhook/meta: what becomes of WhatsApp's messages and statuses, and the handshake.

Sources, for the structure: Meta, "messages webhook reference" and "Webhooks reference"; the
updates in the tests of github.com/david-lev/pywa (tests/data/updates); 360dialog, "Coexistence
Webhooks". Names, numbers and texts are invented.
"""

import json
from typing import Any

import pytest

from tests.builders import encode
from tests.conftest import Api
from tests.providers.samples import (
    VERIFY_TOKEN,
    a_whatsapp,
    from_meta,
    from_twilio,
    some_whatsapps,
)

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
    ("text", {"text": {"body": "é" * 5000}}, "é" * 4095 + "…"),
    ("reaction", {"reaction": {"message_id": "wamid.o", "emoji": ""}}, None),
    ("location", {"location": {"latitude": 37, "longitude": -122.1}}, "37, -122.1"),
    ("of_next_year", {"of_next_year": {"body": "?"}}, "?"),
    ("foo", {"foo": {**FILE, "caption": "Look"}}, "Look"),
    ("foo", {"foo": {"body": {"text": "no text"}}}, None),
    ("foo", {"bar": {"body": "of another kind"}}, None),
]  # fmt: skip

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


@pytest.mark.parametrize(("kind", "members", "text"), WHATSAPP)
def test_each_kind_of_whatsapp(
    api: Api, kind: str, members: dict[str, Any], text: str | None
) -> None:
    message = {"from": "1415", "id": "wamid.1", "timestamp": "1", "type": kind, **members}
    contact = {"profile": {"name": "Ana"}, "wa_id": "1415", "user_id": "US.1"}

    assert api.deliver("meta", from_meta(message, contacts=[contact])).status_code == 200

    [(*found, payload)] = api.rows("SELECT kind, text, payload FROM messages")
    assert found == [kind, text]
    assert json.loads(payload) == {**message, "contact": contact}
    assert api.rows("SELECT count(*) FROM dead_letters") == [(0,)]


@pytest.mark.parametrize(("field", "value", "event"), CHANGES)
def test_each_other_field_of_meta(api: Api, field: str, value: dict[str, Any], event: str) -> None:
    assert api.deliver("meta", encode(changes(value, field=field))).status_code == 200

    assert api.rows("SELECT count(*) FROM messages") == [(0,)]
    assert api.logged()[0]["events"] == {event: 1}


def test_what_cannot_be_a_message_is_kept_and_the_others_are_stored(api: Api) -> None:
    messages = [
        a_whatsapp(1),
        a_whatsapp(2, id=""),
        a_whatsapp(3, id=7),
        a_whatsapp(4, id="\ud83d"),
        "no object",
        a_whatsapp(6),
    ]
    body = from_meta(*messages)

    response = api.deliver("meta", body)

    assert response.status_code == 200
    assert api.rows("SELECT message_id FROM messages") == [
        ("meta:wamid.0001",),
        ("meta:wamid.0006",),
    ]
    reason = "3 messages without a valid id, 1 messages not an object"
    assert api.rows("SELECT id, provider, reason, body FROM dead_letters") == [
        (1, "meta", reason, body)
    ]
    (headers,) = api.rows("SELECT headers FROM dead_letters")[0]
    assert "x-hub-signature-256" in json.loads(headers)
    line = api.logged()[-1]
    assert (line["level"], line["dead_letters"], line["reason"]) == ("WARNING", [1], reason)
    assert line["messages"] == {"created": 2, "dead_letter": 4}
    counts = api.scrape()
    assert counts['provider_messages_total{provider="meta",result="dead_letter"}'] == 4
    assert counts["dead_letters"] == 1


@pytest.mark.parametrize(
    ("members", "sender"),
    [
        ({"from": "16505551234"}, "+16505551234"),
        ({"from": 16505551234}, "+16505551234"),
        ({"from": "+16505551234"}, "+16505551234"),
        ({"from": "\u200e+1 (650) 555\u20111234"}, "+16505551234"),
        ({"from": "US.13491208655302741918"}, "US.13491208655302741918"),
        ({"from": None, "from_user_id": "US.1"}, "US.1"),
        ({"from": "", "from_user_id": "US.1", "from_parent_user_id": "US.ENT.2"}, "US.1"),
        ({"from_user_id": "US.1", "contact": {"wa_id": "16505551234", "user_id": "US.1"}},
         "+16505551234"),
        ({"from_user_id": "US.2", "contact": {"wa_id": "16505559999", "user_id": "US.1"}}, "US.2"),
        ({"from": "US.2", "contact": {"wa_id": "16505559999", "user_id": "US.1"}}, "US.2"),
        ({"contact": {"user_id": "US.9"}}, "US.9"),
        ({"type": "system", "system": {"previous_user_id": "CO.1", "user_id": "MX.2"}}, "CO.1"),
        ({"from": {}}, "unknown"),
        ({}, "unknown"),
    ],
)  # fmt: skip
def test_who_it_is_from_is_a_number_if_there_is_one(
    api: Api, members: dict[str, Any], sender: str
) -> None:
    message = {name: value for name, value in a_whatsapp().items() if name != "from"} | members
    contact = message.pop("contact", None)

    api.deliver("meta", from_meta(message, **({"contacts": [contact]} if contact else {})))

    assert api.rows("SELECT from_msisdn FROM messages") == [(sender,)]


@pytest.mark.parametrize(
    ("metadata", "receiver"),
    [
        ({"display_phone_number": "+1 (555) 078-3881"}, "+15550783881"),
        ({"display_phone_number": "\u200e+1 555\u2011078\u20133881\u00a0"}, "+15550783881"),
        ({"phone_number_id": "106540352242922"}, "106540352242922"),
        ({}, "102290129340398"),
        (None, "102290129340398"),
    ],
)
def test_whom_it_is_to(api: Api, metadata: Any, receiver: str) -> None:
    api.deliver("meta", from_meta(a_whatsapp(), metadata=metadata))

    assert api.rows("SELECT to_msisdn FROM messages") == [(receiver,)]


@pytest.mark.parametrize(
    ("timestamp", "ts"),
    [
        ("1749416383", "2025-06-08T20:59:43Z"),
        (0, "1970-01-01T00:00:00Z"),
        (1749416383, "2025-06-08T20:59:43Z"),
        ("1749416383123", "2025-06-08T20:59:43.123Z"),
        (1749416383123456, "2025-06-08T20:59:43.123456Z"),
        ("1749416383000", "2025-06-08T20:59:43Z"),
        ("2025-06-08T22:59:43.5+02:00", "2025-06-08T20:59:43.500000Z"),
        ("1749416383.5", "2025-06-08T20:59:43Z"),
        (" 1749416383 ", "2025-06-08T20:59:43Z"),
        ("soon", None),
        (None, None),
        (-1, None),
        ("9" * 25, None),
    ],
)
def test_the_time_is_read_in_any_unit_or_is_that_of_arrival(
    api: Api, timestamp: object, ts: str | None
) -> None:
    api.deliver("meta", from_meta(a_whatsapp(timestamp=timestamp)))

    [(stored, arrived)] = api.rows("SELECT ts, created_at FROM messages")
    assert stored == (ts or stored)
    assert ts or stored[:16] == arrived[:16]


def test_statuses_alone_are_counted_by_kind_and_not_stored(api: Api) -> None:
    statuses = [{"id": "wamid.X", "status": s} for s in ("sent", "read", "read", "x" * 9, None)]

    response = api.deliver("meta", from_meta(statuses=statuses))
    twilio = api.deliver("twilio", from_twilio(MessageStatus="delivered"))

    assert (response.status_code, twilio.status_code) == (200, 200)
    assert api.rows("SELECT count(*) FROM messages") == [(0,)]
    counts = api.scrape()
    kinds = {"sent": 1, "read": 2, "other": 2, "failed": 0}
    for kind, count in kinds.items():
        assert counts[f'provider_statuses_total{{kind="{kind}",provider="meta"}}'] == count
    assert counts['provider_requests_total{provider="twilio",result="empty"}'] == 1
    assert api.logged()[0]["statuses"] == {"sent": 1, "read": 2, "other": 2}
    assert api.logged()[0]["result"] == "empty"
    assert api.logged()[0]["level"] == "INFO"


@pytest.mark.parametrize(
    ("value", "codes"),
    [
        ({"statuses": [{"status": "failed", "errors": [{"code": 130472}]}]}, ["130472"]),
        ({"statuses": {"status": "failed", "errors": {"code": 130472}}}, ["130472"]),
        ({"errors": [{"code": 130472}, {"code": 130472}]}, ["130472"]),
        ({"history": [{"errors": [{"code": 130472, "title": "declined"}]}]}, ["130472"]),
        ({"errors": {"code": 130472}}, ["130472"]),
        ({"errors": [{"code": 0, "title": "AuthException"}]}, ["0"]),
        ({"errors": [{"title": "AuthException"}]}, ["AuthException"]),
        ({"errors": ["AuthException"]}, ["unknown"]),
    ],
)
def test_an_error_of_meta_is_told_in_a_warning(
    api: Api, value: dict[str, Any], codes: list[str]
) -> None:
    api.deliver("meta", from_meta(**value))

    assert (api.logged()[0]["level"], api.logged()[0]["error_codes"]) == ("WARNING", codes)


A, B = a_whatsapp(1), a_whatsapp(2)


def changes(*values: object, field: object = "messages") -> dict[str, Any]:
    """Return the payload with a change of `field` for each of `values`."""
    entry = {"id": "1", "changes": [{"field": field, "value": value} for value in values]}
    return {"object": "whatsapp_business_account", "entry": [entry]}


@pytest.mark.parametrize(
    "payload",
    [
        changes({"messages": A}, {"messages": [B]}),
        changes({"messages": {"0": A}}),
        changes({"messages": [B], "message": A}),
        changes({"message": {"text": {"body": "Hi"}}}),
        changes({"data": {"items": [A]}}),
        changes("hello", {"messages": [B]}),
        changes(json.dumps({"messages": [A]})),
        changes({"messages": json.dumps([A])}),
        changes([A]),
        changes({"x": A}, field="of_next_year"),
        changes({"standby": [A]}, field="standby"),
        changes({"standby": [A]}),
        changes({"x": [A]}, field=None),
        changes({"history": [{"threads": [{"id": "1", "messages": A}]}]}, field="history"),
        {"object": "whatsapp_business_account", "entry": {"0": {"x": A}}},
        {"object": "whatsapp_business_account", "entry": {"changes": {"value": {"message": A}}}},
    ],
)
def test_what_looks_like_a_message_in_an_unknown_place_is_kept(
    api: Api, payload: dict[str, Any]
) -> None:
    assert api.deliver("meta", encode(payload)).status_code == 200

    assert api.rows("SELECT body FROM dead_letters") == [(encode(payload),)]
    assert set(api.rows("SELECT message_id FROM messages")) <= {("meta:wamid.0002",)}
    assert api.logged()[0]["level"] == "WARNING"


@pytest.mark.parametrize(
    ("payload", "events"),
    [
        (changes({"messages": []}), {"messages": 1}),
        (changes(None, {}, {"x": 1}), {"messages": 3}),
        (changes({"messages": [B]}, {}), {"messages": 1}),
        (changes({"calls": [{"id": "1", "from": "2", "timestamp": "3"}]}), {"calls": 1}),
        (changes({"message_echoes": [A], "messages": [B]}), {"message_echoes": 1}),
        (changes([A], field="smb_message_echoes"), {"smb_message_echoes": 1}),
        ({**changes(), "entry": {"changes": {"field": "flows", "value": {}}}}, {"flows": 1}),
    ],
)
def test_a_change_without_a_message_is_counted_and_named(
    api: Api, payload: dict[str, Any], events: dict[str, int]
) -> None:
    api.deliver("meta", encode(payload))

    assert api.rows("SELECT count(*) FROM dead_letters") == [(0,)]
    assert api.logged()[0]["events"] == events


def test_of_members_with_one_name_none_is_lost(api: Api) -> None:
    text = a_whatsapp(1, text={"body": 'a text with "messages": in it'})
    twice = from_meta(text).replace(b'"messages": [', b'"messages" : [{"id": "x"}], "messages": [')

    for body in (from_meta(text), twice):
        api.deliver("meta", body)

    assert api.rows("SELECT message_id FROM messages") == [("meta:wamid.0001",)]
    assert api.rows("SELECT body FROM dead_letters") == [(twice,)]


def test_other_fields_are_counted_by_name_and_unknown_ones_together(api: Api) -> None:
    ban = {"event": "DISABLED_UPDATE", "ban_info": {"waba_ban_state": "DISABLE"}}
    fields = [("account_update", ban), ("calls", {}), ("of_next_year", {"x": 1}), (7, None)]
    changes = [{"field": field, "value": value} for field, value in fields]
    payload = {"object": "whatsapp_business_account", "entry": [{"id": "1", "changes": changes}]}

    for body in (encode(payload), encode({"object": "instagram", "entry": []}), b"{}"):
        assert api.deliver("meta", body).status_code == 200

    assert [line["events"] for line in api.logged()] == [
        {"account_update.DISABLED_UPDATE": 1, "calls": 1, "of_next_year": 1, "other": 1},
        {"instagram": 1},
        {"other": 1},
    ]
    counts = api.scrape()
    for event, count in {"account_update": 1, "calls": 1, "instagram": 1, "other": 3}.items():
        assert counts[f'provider_events_total{{event="{event}",provider="meta"}}'] == count


def test_of_a_history_what_customers_wrote_is_stored(api: Api) -> None:
    own = a_whatsapp(2, sender="15550783881", to="16505551234")
    other_own = a_whatsapp(3, history_context={"from_me": True, "status": "READ"})
    threads = [
        {"id": "16505551235", "messages": [a_whatsapp(1), own]},
        {"id": "US.1", "messages": [a_whatsapp(4, sender=None, from_user_id="US.1"), other_own]},
    ]
    history = [{"metadata": {"phase": 0, "chunk_order": 1}, "threads": threads}]
    body = json.loads(from_meta(history=history))
    body["entry"][0]["changes"][0]["field"] = "history"

    api.deliver("meta", encode(body))

    assert api.rows("SELECT message_id, from_msisdn, to_msisdn FROM messages") == [
        ("meta:wamid.0001", "+16505551235", "+15550783881"),
        ("meta:wamid.0004", "US.1", "+15550783881"),
    ]
    assert api.logged()[0]["events"] == {"history.own": 2, "history": 1}


@pytest.mark.parametrize(
    ("thread", "members", "sender"),
    [
        ("US.134912", {"history_context": {"from_me": False}}, "+16505551235"),
        ("US.134912", {}, "+16505551235"),
        ("5511987654321", {"from": "551187654321"}, "+551187654321"),
        ("16505551235@s.whatsapp.net", {}, "+16505551235"),
        ("1203630@g.us", {}, "+16505551235"),
        ("7", {}, "+16505551235"),
        ("16505551235", {"from": "15550783881", "history_context": {"from_me": False}},
         "+15550783881"),
        ("16505551235", {"from": "+1 (555) 078-3881"}, None),
        ("16505551235", {"history_context": {"from_me": True}}, None),
    ],
)  # fmt: skip
def test_a_message_of_a_history_is_stored_unless_it_is_surely_our_own(
    api: Api, thread: str, members: dict[str, Any], sender: str | None
) -> None:
    history = [{"threads": [{"id": thread, "messages": [a_whatsapp(1, **members)]}]}]
    metadata = {"display_phone_number": "15550783881"}

    api.deliver(
        "meta", encode(changes({"metadata": metadata, "history": history}, field="history"))
    )

    assert api.rows("SELECT from_msisdn FROM messages") == ([(sender,)] if sender else [])


def test_the_file_of_a_message_in_a_history_is_no_repeat_of_its_placeholder(api: Api) -> None:
    placeholder = a_whatsapp(1, type="media_placeholder", text=None)
    file = a_whatsapp(1, type="image", text=None, image={"caption": "Look"})
    threads = [{"id": "16505551235", "messages": [placeholder]}]

    for value in ({"history": [{"threads": threads}]}, {"messages": [file]}, {"messages": [file]}):
        api.deliver("meta", encode(changes(value, field="history")))

    assert api.rows("SELECT message_id, kind, text FROM messages") == [
        ("meta:wamid.0001", "media_placeholder", None),
        ("meta:wamid.0001:media", "image", "Look"),
    ]


def test_the_whole_object_is_kept_with_its_contact(api: Api) -> None:
    message = a_whatsapp(1, type="image", image={"id": "9", "mime_type": "image/jpeg"}, x=1e-9)
    contacts = [{"profile": {"name": f"\ud83d {n}"}, "wa_id": f"1650555{1234 + n}"} for n in (0, 1)]

    api.deliver("meta", from_meta(message, a_whatsapp(2), contacts=contacts))

    found: Any = api.client.get("/messages/meta:wamid.0001").json
    contact = {"profile": {"name": "\ufffd 1"}, "wa_id": "16505551235"}
    assert found["payload"] == {**message, "contact": contact}
    assert (found["provider"], found["kind"]) == ("meta", "image")
    assert api.client.get("/messages/meta:wamid.0002").json["payload"] == a_whatsapp(2)  # type: ignore[index]


def test_more_than_a_thousand_messages_are_one_dead_letter(api: Api) -> None:
    many = from_meta(a_whatsapp()).replace(b'"messages": [', b'"messages": [' + b"{}," * 1_000_000)
    bodies = [from_meta(*some_whatsapps(1001)), many]

    statuses = [api.deliver("meta", body).status_code for body in bodies]

    assert statuses == [200, 200]
    assert api.rows("SELECT count(*) FROM messages") == [(0,)]
    assert [body for (body,) in api.rows("SELECT body FROM dead_letters")] == bodies
    assert api.logged()[0]["reason"] == "more than 1,000 messages"
    assert api.logged()[1]["reason"] == "more than 250,000 parts"


def test_a_thousand_messages_are_one_commit_and_their_repeat_adds_none(api: Api) -> None:
    first = api.deliver("meta", from_meta(*some_whatsapps(1000)))
    again = api.deliver("meta", from_meta(*some_whatsapps(1000)))
    half = api.deliver("meta", from_meta(*some_whatsapps(1000, start=500)))

    assert [reply.status_code for reply in (first, again, half)] == [200, 200, 200]
    assert api.rows("SELECT count(*), count(DISTINCT message_id) FROM messages") == [(1500, 1500)]
    assert [line["messages"] for line in api.logged()] == [
        {"created": 1000}, {"duplicate": 1000}, {"duplicate": 500, "created": 500}
    ]  # fmt: skip
    assert [(line["result"], line["dup"]) for line in api.logged()] == [
        ("created", False), ("duplicate", True), ("created", False)
    ]  # fmt: skip
    counts = api.scrape()
    assert counts["commit_batch_messages_sum"] == 3000
    assert counts["commit_batch_messages_count"] == 3
    assert counts["webhook_conflicts_total"] == 0


def test_a_message_that_comes_twice_in_a_delivery_is_stored_once(api: Api) -> None:
    api.deliver(
        "meta", from_meta(a_whatsapp(1), a_whatsapp(1), a_whatsapp(1, text={"body": "other"}))
    )

    assert api.logged()[-1]["messages"] == {"created": 1, "duplicate": 2}
    assert api.logged()[-1]["conflict"] is True
    assert api.scrape()["webhook_conflicts_total"] == 1


def test_unknown_parts_are_ignored(api: Api) -> None:
    payload = json.loads(from_meta(a_whatsapp(1), contacts=7, errors={}, of_next_year=[]))
    payload["entry"] += [7, None, {}, {"changes": 7}, {"changes": [7, {}, {"value": []}]}]
    payload["entry"] += [{"changes": [{"field": "account_update", "value": {"event": "X"}}]}]
    payload["version"] = "v99.0"

    assert api.deliver("meta", encode(payload)).status_code == 200
    assert api.rows("SELECT message_id FROM messages") == [("meta:wamid.0001",)]


@pytest.mark.parametrize(
    ("query", "status", "reply"),
    [
        (f"hub.mode=subscribe&hub.verify_token={VERIFY_TOKEN}&hub.challenge=1158201444",
         200, b"1158201444"),
        ("hub.mode=subscribe&hub.verify_token=wrong&hub.challenge=1158201444", 403, None),
        ("hub.mode=subscribe&hub.verify_token=%ff%C3%A9&hub.challenge=1", 403, None),
        (f"hub.mode=unsubscribe&hub.verify_token={VERIFY_TOKEN}&hub.challenge=1", 403, None),
        (f"hub.mode=subscribe&hub.verify_token={VERIFY_TOKEN}", 403, None),
        ("", 403, None),
    ],
)  # fmt: skip
def test_the_handshake_of_meta(api: Api, query: str, status: int, reply: bytes | None) -> None:
    response = api.client.get(f"/webhook/meta?{query}")

    assert response.status_code == status
    assert reply is None or (response.data, response.mimetype) == (reply, "text/plain")
