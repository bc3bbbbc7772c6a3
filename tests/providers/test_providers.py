"""POST /webhook/meta, /webhook/twilio and /webhook/standard: what is stored and answered."""

import json
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from openapi_spec_validator import OpenAPIV31SpecValidator
from werkzeug.test import TestResponse

from tests.builders import a_message, an_app, encode, signed
from tests.conftest import Logged, Rows, Scrape
from tests.providers.samples import (
    VERIFY_TOKEN,
    a_config,
    a_whatsapp,
    from_meta,
    from_standard,
    from_twilio,
    signed_as,
    some_whatsapps,
)
from webhook_api.config import Config

Deliver = Callable[..., TestResponse]
MIB = 1024 * 1024


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return a_config(tmp_path)


@pytest.fixture
def deliver(client: FlaskClient) -> Deliver:
    """Deliver a body as a provider does, with the right signature."""

    def deliver(provider: str, body: bytes, **options: Any) -> TestResponse:
        headers = signed_as(provider, body, now=time.time(), **options)
        return client.post(f"/webhook/{provider}", data=body, headers=headers)

    return deliver


@pytest.mark.parametrize("provider", ["meta", "twilio", "standard"])
def test_a_provider_without_its_secret_is_404(tmp_path: Path, provider: str) -> None:
    client = an_app(Config(webhook_secret="s", database_path=tmp_path / "off.db")).test_client()

    assert client.post(f"/webhook/{provider}", data=b"{}").status_code == 404
    assert client.get(f"/webhook/{provider}").status_code == 404
    assert f"/webhook/{provider}" not in client.get("/openapi.json").json["paths"]  # type: ignore[index]
    assert f'provider="{provider}"' not in client.get("/metrics").text


def test_each_provider_stores_with_its_own_prefix(deliver: Deliver, rows: Rows) -> None:
    replies = [
        deliver("meta", from_meta(a_whatsapp(id="m1"))),
        deliver("twilio", from_twilio(MessageSid="m1")),
        deliver("standard", from_standard(message_id="m1")),
    ]

    assert [reply.status_code for reply in replies] == [200, 200, 200]
    assert replies[0].json == replies[2].json == {"status": "ok"}
    assert replies[1].text == '<?xml version="1.0" encoding="UTF-8"?><Response/>'
    assert replies[1].mimetype == "text/xml"
    found = rows("SELECT message_id, from_msisdn, to_msisdn, text FROM messages ORDER BY id")
    assert found == [
        ("meta:m1", "+16505551234", "+15550783881", "Does it come in another color? 0"),
        ("twilio:m1", "+14155551234", "+14155238886", "Hello"),
        ("standard:m1", "+919876543210", "+14155550100", "Hello"),
    ]


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


def test_a_repeat_of_twilio_is_no_conflict_though_it_comes_later(
    deliver: Deliver, logged: Logged
) -> None:
    for _ in range(2):
        assert deliver("twilio", from_twilio()).status_code == 200
        time.sleep(0.002)

    assert [line["result"] for line in logged()] == ["created", "duplicate"]
    assert "conflict" not in logged()[-1]
    assert logged()[-1]["message_id"] == "twilio:SM1f0e8ae6ade43cb3c0ce4525424e404f"


def test_nothing_is_stored_if_one_message_cannot_be(
    deliver: Deliver, config: Config, rows: Rows
) -> None:
    with closing(sqlite3.connect(config.database_path)) as other:
        other.execute(
            "CREATE TRIGGER refuse BEFORE INSERT ON messages WHEN NEW.message_id LIKE '%0007'"
            " BEGIN SELECT RAISE(ABORT, 'not this one'); END"
        )

    response = deliver("meta", from_meta(*some_whatsapps(10)))

    assert response.status_code >= 500
    assert rows("SELECT count(*) FROM messages") == [(0,)]


@pytest.mark.parametrize("provider", ["meta", "twilio", "standard"])
def test_without_a_signature_nothing_of_the_body_is_read(
    client: FlaskClient, rows: Rows, scrape: Scrape, logged: Logged, provider: str
) -> None:
    body = {"meta": from_meta(a_whatsapp()), "twilio": from_twilio(), "standard": from_standard()}
    headers = signed_as(provider, body[provider], now=time.time())
    altered = {name: value[:-3] + "é==" for name, value in headers.items()}
    stranger = signed_as(provider, b"other bytes", now=time.time())

    replies = [
        client.post(f"/webhook/{provider}", data=body[provider], headers=sent)
        for sent in ({}, altered, stranger, signed(body[provider]))
    ]
    replies.append(client.post(f"/webhook/{provider}", data=b"\xff{", headers=headers))

    assert {reply.status_code for reply in replies} == {401}
    assert replies[0].json == {"detail": "invalid signature"}
    assert rows("SELECT count(*) FROM messages") == [(0,)]
    key = f'provider_requests_total{{provider="{provider}",result="invalid_signature"}}'
    assert scrape()[key] == len(replies)
    line = logged()[0]
    assert (line["provider"], line["level"]) == (provider, "ERROR")
    assert not {"message_id", "messages", "skipped"} & set(line)


@pytest.mark.parametrize(
    ("provider", "body"),
    [
        *[("meta", body) for body in (b"", b"{", b"[]", b"null", b'{"object":"page","entry":[]}',
          b'{"object":"whatsapp_business_account"}', from_meta(*some_whatsapps(1001)))],
        *[("twilio", body) for body in (b"", b"{}", b"CallSid=CA1&From=%2B1&To=%2B2",
          b"MessageSid=SM1&From=%2B1")],
        *[("standard", body) for body in (b"", b"[]", b'{"test": 2432232314}',
          from_standard(text="x" * 4097), from_standard(message_id=7), from_standard(ts="now"))],
    ],
)  # fmt: skip
def test_a_body_in_another_format_is_refused(
    deliver: Deliver, rows: Rows, provider: str, body: bytes
) -> None:
    response = deliver(provider, body)

    assert response.status_code == 422
    assert response.json["detail"][0]["loc"][0] == "body"  # type: ignore[index]
    assert rows("SELECT count(*) FROM messages") == [(0,)]


def test_unknown_parts_are_ignored(deliver: Deliver, rows: Rows) -> None:
    payload = json.loads(from_meta(a_whatsapp(1), contacts=7, errors={}, of_next_year=[]))
    payload["entry"] += [7, None, {}, {"changes": 7}, {"changes": [7, {}, {"value": []}]}]
    payload["entry"] += [{"changes": [{"field": "account_update", "value": {"event": "X"}}]}]
    payload["version"] = "v99.0"

    assert deliver("meta", encode(payload)).status_code == 200
    assert rows("SELECT message_id FROM messages") == [("meta:wamid.0001",)]


def test_a_standard_message_is_the_data_or_the_body(deliver: Deliver, rows: Rows) -> None:
    flat = encode(a_message(message_id="flat", data="is no object"))
    nameless = encode({key: value for key, value in a_message().items() if key != "message_id"})

    for body in (flat, nameless, nameless):
        assert deliver("standard", body, webhook_id="msg_7").status_code == 200

    assert rows("SELECT message_id FROM messages") == [("standard:flat",), ("standard:msg_7",)]


@pytest.mark.parametrize(("provider", "limit"), [("meta", 3 * MIB), ("twilio", MIB // 4)])
def test_only_meta_may_send_three_mebibytes(
    client: FlaskClient, deliver: Deliver, provider: str, limit: int
) -> None:
    refused = client.post(f"/webhook/{provider}", data=b" " * (limit + 1))
    read = client.post(f"/webhook/{provider}", data=b" " * limit)

    assert (refused.status_code, read.status_code) == (413, 401)
    assert client.post("/webhook", data=b" " * (MIB // 4 + 1)).status_code == 413
    long = from_meta(*some_whatsapps(1000), contacts=[{"profile": {"name": "x" * 2 * MIB}}])
    assert deliver("meta", long).status_code == 200


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


def test_the_urls_query_is_part_of_what_twilio_signs(client: FlaskClient) -> None:
    """The URL that an operator enters at Twilio may have one."""
    # node: createHmac("sha1", "auth-token").update(url + "?a=%20b" + sorted fields)
    body = b"MessageSid=SM1&From=%2B1415&To=%2B1800&Body="
    headers = {"X-Twilio-Signature": "kTZc9MLqY8u0y9nufRdSSK17+Qw="}

    assert client.post("/webhook/twilio?a=%20b", data=body, headers=headers).status_code == 200
    assert client.post("/webhook/twilio?a=+b", data=body, headers=headers).status_code == 401
    assert client.post("/webhook/twilio", data=body, headers=headers).status_code == 401


def test_a_503_says_when_to_come_again(deliver: Deliver, app: Flask) -> None:
    app.extensions["commits"].close()

    response = deliver("meta", from_meta(a_whatsapp()))

    assert response.status_code == 503
    assert int(response.headers["Retry-After"]) > 0
    assert deliver("twilio", from_twilio()).status_code == 503


def test_the_providers_in_use_are_described(client: FlaskClient) -> None:
    document: Any = client.get("/openapi.json").json

    OpenAPIV31SpecValidator(document).validate()
    webhook = document["paths"]["/webhook"]["post"]
    for provider in ("meta", "twilio", "standard"):
        operation = document["paths"][f"/webhook/{provider}"]["post"]
        assert set(operation["responses"]) == set(webhook["responses"])
        assert operation["operationId"] != webhook["operationId"]
    assert set(document["paths"]["/webhook/meta"]["get"]["responses"]) == {"200", "403", "500"}
    identifiers = [
        operation["operationId"]
        for path in document["paths"].values()
        for operation in path.values()
    ]
    assert len(set(identifiers)) == len(identifiers)


def test_no_client_can_create_series_of_metrics(client: FlaskClient, scrape: Scrape) -> None:
    before = set(scrape())

    for path in ("/webhook/other", "/webhook/meta/", "/webhook/META", "/webhook/x%22y"):
        client.post(path, data=b"{}", headers={"X-Provider": "x"})
    for provider in ("meta", "twilio", "standard"):
        client.post(f"/webhook/{provider}", data=b"{}")

    new = {series for series in set(scrape()) - before if not series.startswith("http_requests")}
    assert new == set()
