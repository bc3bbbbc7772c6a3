"""POST /webhook/meta: what becomes of WhatsApp's messages and statuses, and the handshake."""

import json
import time
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


@pytest.mark.parametrize(
    ("members", "text"),
    [
        ({"type": "text", "text": {"body": "Hi"}}, "Hi"),
        ({"type": "text", "text": {"body": "é" * 5000}}, "é" * 4095 + "…"),
        ({"type": "image", "image": {"caption": "Taj Mahal", "id": "1003383421387256"}},
         "Taj Mahal"),
        ({"type": "image", "image": {"id": "1003383421387256"}}, None),
        ({"type": "document", "document": {"caption": "my receipt", "filename": "receipt.pdf"}},
         "my receipt"),
        ({"type": "button", "button": {"payload": "Unsubscribe", "text": "Unsubscribe"}},
         "Unsubscribe"),
        ({"type": "interactive", "interactive": {"type": "list_reply", "list_reply":
         {"id": "priority_express", "title": "Priority Mail Express", "description": "1 Day"}}},
         "Priority Mail Express"),
        ({"type": "interactive", "interactive": {"type": "button_reply", "button_reply":
         {"id": "cancel-button", "title": "Cancel"}}}, "Cancel"),
        ({"type": "reaction", "reaction": {"message_id": "wamid.X", "emoji": "👍"}}, "👍"),
        ({"type": "reaction", "reaction": {"message_id": "wamid.X"}}, None),
        ({"type": "reaction", "reaction": {"message_id": "wamid.X", "emoji": ""}}, None),
        ({"type": "location", "location": {"name": "Philz Coffee", "address": "101 Forest Ave",
         "latitude": 37.44212, "longitude": -122.161502}},
         "Philz Coffee, 101 Forest Ave, 37.44212, -122.161502"),
        ({"type": "location", "location": {"latitude": 37, "longitude": -122.1}}, "37, -122.1"),
        ({"type": "sticker", "sticker": {"id": "1", "animated": False}}, None),
        ({"type": "unsupported", "errors": [{"code": 131051}]}, None),
        ({"type": "of_next_year", "of_next_year": {"body": "?"}}, None),
    ],
)  # fmt: skip
def test_what_a_whatsapp_message_says_is_its_text(
    api: Api, members: dict[str, Any], text: str | None
) -> None:
    """Kinds and members as in Meta's "messages webhook reference", one page for each kind."""
    message = {name: value for name, value in a_whatsapp().items() if name != "text"}

    response = api.deliver("meta", from_meta({**message, **members}))

    assert response.status_code == 200
    assert api.rows("SELECT text FROM messages") == [(text,)]


def test_numbers_and_times_are_written_as_the_specification_wants(api: Api) -> None:
    metadata = {"display_phone_number": "+1 (555) 078-3881"}

    api.deliver(
        "meta", from_meta(a_whatsapp(timestamp=0, sender="+16505551234"), metadata=metadata)
    )

    assert api.rows("SELECT from_msisdn, to_msisdn, ts FROM messages") == [
        ("+16505551234", "+15550783881", "1970-01-01T00:00:00Z")
    ]


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

    started = time.monotonic()
    statuses = [api.deliver("meta", body).status_code for body in bodies]
    seconds = time.monotonic() - started

    assert statuses == [200, 200]
    assert seconds < 3
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
