"""What holds for the route of each provider: when it is there, refuses, and is described."""

import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from openapi_spec_validator import OpenAPIV31SpecValidator

from tests.builders import an_app, signed
from tests.conftest import Logged, Rows, Scrape
from tests.providers.conftest import Deliver
from tests.providers.samples import (
    a_whatsapp,
    from_meta,
    from_standard,
    from_twilio,
    signed_as,
    some_whatsapps,
)
from webhook_api.config import Config

MIB = 1024 * 1024


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


OTHER_FORMATS = {
    "meta": [b"", b"{", b"[]", b"null", b'{"object":"page","entry":[]}',
             b'{"object":"whatsapp_business_account"}', from_meta(*some_whatsapps(1001))],
    "twilio": [b"", b"{}", b"CallSid=CA1&From=%2B1&To=%2B2", b"MessageSid=SM1&From=%2B1"],
    "standard": [b"", b"[]", b'{"test": 2432232314}', from_standard(text="x" * 4097),
                 from_standard(message_id=7), from_standard(ts="now")],
}  # fmt: skip


@pytest.mark.parametrize("provider", OTHER_FORMATS)
def test_a_body_in_another_format_is_refused(deliver: Deliver, rows: Rows, provider: str) -> None:
    for body in OTHER_FORMATS[provider]:
        response = deliver(provider, body)

        assert response.status_code == 422, body[:100]
        assert response.json["detail"][0]["loc"][0] == "body"  # type: ignore[index]
    assert rows("SELECT count(*) FROM messages") == [(0,)]


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
