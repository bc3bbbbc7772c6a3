"""What holds for the route of each provider: when it is there, refuses, and is described."""

import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from tests.builders import a_message, an_app, samples, signed
from tests.conftest import Api
from tests.providers.samples import (
    a_config,
    a_whatsapp,
    from_meta,
    from_standard,
    from_twilio,
    signed_as,
    some_whatsapps,
)
from webhook_api import close_app
from webhook_api.config import Config
from webhook_api.providers import PARSERS, meta, standard, twilio
from webhook_api.services import services_of
from webhook_api.store import dead_letters

METHODS = ["POST", "GET"]


@pytest.mark.parametrize("provider", ["meta", "twilio", "standard"])
def test_a_provider_without_its_secret_is_404(tmp_path: Path, provider: str) -> None:
    app = an_app(Config(webhook_secret="s", database_path=tmp_path / "off.db"))
    client = app.test_client()

    statuses = [client.open(f"/webhook/{provider}", method=one).status_code for one in METHODS]
    described = client.get("/openapi.json").json
    metrics = client.get("/metrics").text
    close_app(app)

    assert statuses == [404, 404]
    assert f"/webhook/{provider}" not in described["paths"]  # type: ignore[index]
    assert f'provider="{provider}"' not in metrics


def test_each_provider_stores_with_its_own_prefix(api: Api) -> None:
    replies = [
        api.deliver("meta", from_meta(a_whatsapp(id="m1"))),
        api.deliver("twilio", from_twilio(MessageSid="m1")),
        api.deliver("standard", from_standard(message_id="m1")),
    ]

    assert [reply.status_code for reply in replies] == [200, 200, 200]
    assert replies[0].json == replies[2].json == {"status": "ok"}
    assert replies[1].text == '<?xml version="1.0" encoding="UTF-8"?><Response/>'
    assert replies[1].mimetype == "text/xml"
    found = api.rows("SELECT message_id, from_msisdn, to_msisdn, text FROM messages ORDER BY id")
    assert found == [
        ("meta:m1", "+16505551234", "+15550783881", "Does it come in another color? 0"),
        ("twilio:m1", "+14155551234", "+14155238886", "Hello"),
        ("standard:m1", "+919876543210", "+14155550100", "Hello"),
    ]


def test_nothing_is_stored_if_one_message_cannot_be(api: Api) -> None:
    with closing(sqlite3.connect(api.path)) as other:
        other.execute(
            "CREATE TRIGGER refuse BEFORE INSERT ON messages WHEN NEW.message_id LIKE '%0007'"
            " BEGIN SELECT RAISE(ABORT, 'not this one'); END"
        )

    response = api.deliver("meta", from_meta(*some_whatsapps(10)))

    assert response.status_code >= 500
    assert api.rows("SELECT count(*) FROM messages") == [(0,)]


@pytest.mark.parametrize("provider", ["meta", "twilio", "standard"])
def test_without_a_signature_nothing_of_the_body_is_read(api: Api, provider: str) -> None:
    body = {"meta": from_meta(a_whatsapp()), "twilio": from_twilio(), "standard": from_standard()}
    headers = signed_as(provider, body[provider], now=time.time())
    altered = {name: value[:-3] + "é==" for name, value in headers.items()}
    stranger = signed_as(provider, b"other bytes", now=time.time())

    replies = [
        api.client.post(f"/webhook/{provider}", data=body[provider], headers=sent)
        for sent in ({}, altered, stranger, signed(body[provider]))
    ]
    replies.append(api.client.post(f"/webhook/{provider}", data=b"\xff{", headers=headers))

    assert {reply.status_code for reply in replies} == {401}
    assert replies[0].json == {"detail": "invalid signature"}
    assert api.rows("SELECT count(*) FROM messages") == [(0,)]
    key = f'provider_requests_total{{provider="{provider}",result="invalid_signature"}}'
    assert api.scrape()[key] == len(replies)
    line = api.logged()[0]
    assert (line["provider"], line["level"]) == (provider, "ERROR")
    assert not {"message_id", "messages", "skipped"} & set(line)


# Signed bodies without a message: kept aside, or counted.
KEPT = {
    "meta": [b"", b"{", b"[]", b"null", b"\xff", b"hello", b'{"x": NaN}', b"[" * 9000],
    "twilio": [b"From=%2B1&To=%2B2&Body=", b'\xef\xbb\xbf {"Body":"x"}', b"[]", b"{",
               b"SmsStatus=received&MessageSid="],
    "standard": [b"", b"[]", b"7", b"{", from_standard(message_id=7),
                 b'{"type":"message.received","data":{"message":{"from":"+1"}}}',
                 b'{"type":"sms.inbound","data":[{"from":"+1","text":"Hi"}]}',
                 from_standard(message_id="x" * 600), from_standard(message_id="\udc00")],
}  # fmt: skip
COUNTED = {
    "meta": [b"{}", b'{"object":"page","entry":[]}', b'{"object":"whatsapp_business_account"}'],
    "twilio": [b"", b"a", b"CallSid=CA1&From=%2B1&To=%2B2", b"MessageSid=SM1&ErrorCode=30003",
               b"SmsSid=SM1&SmsStatus=delivered&From=%2B1&To=%2B2",
               b"MessageSid=SM1&EventType=READ&SmsStatus=received&Body=x&From=%2B1&To=%2B2",
               b"MessageSid=SM1&MessageStatus=sent&Body=x&To=%2B2"],
    "standard": [b"{}", b'{"test": 2432232314}', b'{"type":"webhook.test","data":{"success":true}}',
                 b'{"event_type":"ping","data":[1]}', b'{"type":"user.created","data":{"id":"1"}}'],
}  # fmt: skip


@pytest.mark.parametrize("provider", KEPT)
def test_what_is_signed_and_cannot_be_read_is_kept(api: Api, provider: str) -> None:
    for body in KEPT[provider]:
        assert api.deliver(provider, body).status_code == 200, body[:100]

    assert api.rows("SELECT count(*) FROM messages") == [(0,)]
    assert [body for (body,) in api.rows("SELECT body FROM dead_letters")] == KEPT[provider]
    assert {(line["result"], line["level"]) for line in api.logged()} == {
        ("dead_letter", "WARNING")
    }


@pytest.mark.parametrize("provider", COUNTED)
def test_what_is_signed_and_no_message_is_counted(api: Api, provider: str) -> None:
    for body in COUNTED[provider]:
        assert api.deliver(provider, body).status_code == 200, body[:100]

    assert api.rows("SELECT count(*) FROM messages") == api.rows(
        "SELECT count(*) FROM dead_letters"
    )
    assert all(line.get("events") or line.get("statuses") for line in api.logged())
    assert {line["result"] for line in api.logged()} == {"empty"}


def test_an_error_of_ours_is_kept_with_its_traceback_in_the_log(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PARSERS, "meta", lambda *_: 1 / 0)

    assert api.deliver("meta", b"{}").status_code == 200

    assert api.rows("SELECT reason FROM dead_letters") == [
        ("an error of the service: ZeroDivisionError",)
    ]
    assert api.logged()[0]["level"] == "WARNING"
    assert "division by zero" in api.logged()[0]["traceback"]


def test_when_no_more_can_be_kept_the_provider_keeps_it(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead_letters, "MAX_DEAD_LETTERS", 1)

    statuses = [api.deliver("meta", body).status_code for body in (b"[]", b"[]", from_meta({}))]

    assert statuses == [200, 503, 503]
    assert api.deliver("meta", from_meta(a_whatsapp())).status_code == 200
    assert api.rows("SELECT count(*) FROM dead_letters") == [(1,)]


def test_the_line_of_a_401_of_twilio_says_which_url_was_checked(api: Api) -> None:
    """Most often PUBLIC_URL is wrong."""
    api.client.post(
        "/webhook/twilio?a=%20b", data=b"x", environ_overrides={"REMOTE_ADDR": "192.0.2.7"}
    )
    api.client.post("/webhook/meta", data=b"x")

    assert api.logged()[0]["checked_url"] == "https://hooks.example.com/webhook/twilio?a=%20b"
    assert api.logged()[0]["client"] == "192.0.2.7"
    assert "checked_url" not in api.logged()[1]


SECRETS = {
    "meta": ("META_APP_SECRET", "new old"),
    "twilio": ("TWILIO_AUTH_TOKEN", "new old"),
    "standard": ("STANDARD_WEBHOOKS_SECRET", "whsec_bmV3 whsec_b2xk"),
}


@pytest.mark.parametrize("provider", SECRETS)
@pytest.mark.parametrize("in_file", [False, True], ids=["variable", "file"])
def test_while_a_secret_is_changed_both_are_accepted(
    tmp_path: Path, provider: str, in_file: bool
) -> None:
    name, value = SECRETS[provider]
    settings = {name: value}
    if in_file:
        (tmp_path / "secret").write_text(value + "\n")
        settings = {name: "", f"{name}_FILE": str(tmp_path / "secret")}
    app = an_app(a_config(tmp_path, **settings))
    client = app.test_client()
    body = {"meta": b"{}", "twilio": b"a=b", "standard": b"{}"}[provider]
    url = "https://hooks.example.com/webhook/twilio"

    statuses = []
    for secret in ("new", "old", "old", "other"):
        headers = {
            "meta": lambda secret=secret: meta.sign_delivery(secret, body),
            "twilio": lambda secret=secret: twilio.sign_delivery(secret, url, body),
            "standard": lambda secret=secret: standard.sign_delivery(
                secret.encode(), "msg_1", int(time.time()), body
            ),
        }[provider]()
        statuses.append(client.post(f"/webhook/{provider}", data=body, headers=headers).status_code)
    counts = samples(client.get("/metrics").text)
    close_app(app)

    assert statuses == [200, 200, 200, 401]
    used = [
        counts[f'webhook_signatures_total{{key="{key}",provider="{provider}"}}']
        for key in ("current", "previous")
    ]
    assert used == [1, 2]


def test_a_503_says_when_to_come_again(api: Api) -> None:
    services_of(api.app).commits.close()

    response = api.deliver("meta", from_meta(a_whatsapp()))

    assert response.status_code == 503
    assert int(response.headers["Retry-After"]) > 0
    assert api.deliver("twilio", from_twilio()).status_code == 503


def test_the_providers_in_use_are_described(api: Api) -> None:
    document: Any = api.client.get("/openapi.json").json

    OpenAPIV31SpecValidator(document).validate()
    webhook = document["paths"]["/webhook"]["post"]
    for provider in ("meta", "twilio", "standard"):
        operation = document["paths"][f"/webhook/{provider}"]["post"]
        assert set(operation["responses"]) == set(webhook["responses"]) - {"422"}
        assert operation["operationId"] != webhook["operationId"]
    assert set(document["paths"]["/webhook/meta"]["get"]["responses"]) == {"200", "403", "500"}
    identifiers = [
        operation["operationId"]
        for path in document["paths"].values()
        for operation in path.values()
    ]
    assert len(set(identifiers)) == len(identifiers)


def test_no_client_can_create_series_of_metrics(api: Api) -> None:
    before = set(api.scrape())

    for path in ("/webhook/other", "/webhook/meta/", "/webhook/META", "/webhook/x%22y"):
        api.client.post(path, data=b"{}", headers={"X-Provider": "x"})
    for provider in ("meta", "twilio", "standard"):
        api.client.post(f"/webhook/{provider}", data=b"{}")

    new = {
        series for series in set(api.scrape()) - before if not series.startswith("http_requests")
    }
    assert new == set()


def test_an_id_with_the_prefix_of_a_provider_in_use_is_422_on_webhook(api: Api) -> None:
    ids = ["meta:wamid.1", "twilio:SM1", "standard:1", "standard/shop:1", "meta:"]
    taken = [api.post(a_message(message_id=message_id)) for message_id in ids]
    others = ["other:1", "meta", "Meta:1", " meta:1", "a:meta:1"]
    stored = [api.post(a_message(message_id=message_id)) for message_id in others]

    genuine = api.deliver("meta", from_meta(a_whatsapp(1)))

    assert {reply.status_code for reply in taken} == {422}
    assert all('"loc":["body","message_id"]' in reply.text for reply in taken)
    assert {reply.status_code for reply in stored} == {200}
    assert genuine.status_code == 200
    assert len(api.rows("SELECT * FROM messages")) == len(others) + 1
