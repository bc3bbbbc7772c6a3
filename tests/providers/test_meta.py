"""POST /webhook/meta: what becomes of WhatsApp's messages and statuses, and the handshake."""

import json
from typing import Any

import pytest
from flask.testing import FlaskClient

from tests.builders import encode
from tests.conftest import Logged, Rows, Scrape
from tests.providers.conftest import Deliver
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
    deliver: Deliver, rows: Rows, members: dict[str, Any], text: str | None
) -> None:
    """Kinds and members as in Meta's "messages webhook reference", one page for each kind."""
    message = {name: value for name, value in a_whatsapp().items() if name != "text"}

    response = deliver("meta", from_meta({**message, **members}))

    assert response.status_code == 200
    assert rows("SELECT text FROM messages") == [(text,)]


def test_numbers_and_times_are_written_as_the_specification_wants(
    deliver: Deliver, rows: Rows
) -> None:
    metadata = {"display_phone_number": "+1 (555) 078-3881"}

    deliver("meta", from_meta(a_whatsapp(timestamp=0, sender="+16505551234"), metadata=metadata))

    assert rows("SELECT from_msisdn, to_msisdn, ts FROM messages") == [
        ("+16505551234", "+15550783881", "1970-01-01T00:00:00Z")
    ]


def test_what_breaks_a_rule_is_skipped_and_the_others_are_stored(
    deliver: Deliver, rows: Rows, scrape: Scrape, logged: Logged
) -> None:
    messages = [
        a_whatsapp(1),
        a_whatsapp(2, id=""),
        a_whatsapp(3, sender="BR.1234abc"),
        a_whatsapp(4, sender=None),
        a_whatsapp(5, timestamp="soon"),
        "no object",
        a_whatsapp(6),
    ]
    reasons = {"message_id": 1, "from": 2, "ts": 1, "not_an_object": 1}

    response = deliver("meta", from_meta(*messages))

    assert response.status_code == 200
    assert rows("SELECT message_id FROM messages") == [("meta:wamid.0001",), ("meta:wamid.0006",)]
    assert logged()[-1]["skipped"] == reasons
    counts = scrape()
    for reason, count in reasons.items():
        labels = f'provider="meta",reason="{reason}",result="skipped"'
        assert counts[f"provider_messages_total{{{labels}}}"] == count


def test_statuses_alone_are_counted_by_kind_and_not_stored(
    deliver: Deliver, rows: Rows, scrape: Scrape, logged: Logged
) -> None:
    statuses = [{"id": "wamid.X", "status": s} for s in ("sent", "read", "read", "x" * 9, None)]

    response = deliver("meta", from_meta(statuses=statuses))
    twilio = deliver("twilio", from_twilio(MessageStatus="delivered"))

    assert (response.status_code, twilio.status_code) == (200, 200)
    assert rows("SELECT count(*) FROM messages") == [(0,)]
    counts = scrape()
    kinds = {"sent": 1, "read": 2, "other": 2, "failed": 0}
    for kind, count in kinds.items():
        assert counts[f'provider_statuses_total{{kind="{kind}",provider="meta"}}'] == count
    assert counts['provider_requests_total{provider="twilio",result="empty"}'] == 1
    assert logged()[0]["statuses"] == {"sent": 1, "read": 2, "other": 2}
    assert logged()[0]["result"] == "empty"


def test_a_thousand_messages_are_one_commit_and_their_repeat_adds_none(
    deliver: Deliver, rows: Rows, scrape: Scrape, logged: Logged
) -> None:
    first = deliver("meta", from_meta(*some_whatsapps(1000)))
    again = deliver("meta", from_meta(*some_whatsapps(1000)))
    half = deliver("meta", from_meta(*some_whatsapps(1000, start=500)))

    assert [reply.status_code for reply in (first, again, half)] == [200, 200, 200]
    assert rows("SELECT count(*), count(DISTINCT message_id) FROM messages") == [(1500, 1500)]
    assert [line["messages"] for line in logged()] == [
        {"created": 1000}, {"duplicate": 1000}, {"duplicate": 500, "created": 500}
    ]  # fmt: skip
    assert [(line["result"], line["dup"]) for line in logged()] == [
        ("created", False), ("duplicate", True), ("created", False)
    ]  # fmt: skip
    counts = scrape()
    assert counts["commit_batch_messages_sum"] == 3000
    assert counts["commit_batch_messages_count"] == 3
    assert counts["webhook_conflicts_total"] == 0


def test_a_message_that_comes_twice_in_a_delivery_is_stored_once(
    deliver: Deliver, logged: Logged, scrape: Scrape
) -> None:
    deliver("meta", from_meta(a_whatsapp(1), a_whatsapp(1), a_whatsapp(1, text={"body": "other"})))

    assert logged()[-1]["messages"] == {"created": 1, "duplicate": 2}
    assert logged()[-1]["conflict"] is True
    assert scrape()["webhook_conflicts_total"] == 1


def test_unknown_parts_are_ignored(deliver: Deliver, rows: Rows) -> None:
    payload = json.loads(from_meta(a_whatsapp(1), contacts=7, errors={}, of_next_year=[]))
    payload["entry"] += [7, None, {}, {"changes": 7}, {"changes": [7, {}, {"value": []}]}]
    payload["entry"] += [{"changes": [{"field": "account_update", "value": {"event": "X"}}]}]
    payload["version"] = "v99.0"

    assert deliver("meta", encode(payload)).status_code == 200
    assert rows("SELECT message_id FROM messages") == [("meta:wamid.0001",)]


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
def test_the_handshake_of_meta(
    client: FlaskClient, query: str, status: int, reply: bytes | None
) -> None:
    response = client.get(f"/webhook/meta?{query}")

    assert response.status_code == status
    assert reply is None or (response.data, response.mimetype) == (reply, "text/plain")
