"""READ_TOKEN: reads need it; deliveries and probes do not."""

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from flask import Flask
from openapi_spec_validator import OpenAPIV31SpecValidator

from tests.builders import a_message, an_app, encode, samples, signed
from tests.conftest import Api
from webhook_api import close_app
from webhook_api.config import Config

TOKEN = "s3cret-Token~+/=="
READS = ["/messages", "/stats", "/metrics"]


@pytest.fixture
def app(config: Config) -> Iterator[Flask]:
    app = an_app(replace(config, read_token=TOKEN))
    yield app
    close_app(app)


def bearer(token: str = TOKEN) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.mark.parametrize("path", READS)
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_a_read_needs_the_token(api: Api, path: str, method: str) -> None:
    refused = api.client.open(path, method=method)
    answered = api.client.open(path, method=method, headers=bearer())

    assert (refused.status_code, answered.status_code) == (401, 200)
    assert refused.headers["WWW-Authenticate"] == 'Bearer realm="Webhook API"'
    if method != "HEAD":
        assert refused.json == {"detail": "a token is needed: Authorization: Bearer TOKEN"}


RIGHT = [f"bearer {TOKEN}", f"BEARER {TOKEN}", f"Bearer   {TOKEN}", f"Bearer {TOKEN} "]
# What was sent, and whether it was a token at all.
WRONG: list[tuple[list[str], bool]] = [
    ([""], False), (["Bearer"], True), (["Bearer "], True), ([TOKEN], False),
    ([f"Basic {TOKEN}"], False), ([f"Token {TOKEN}"], False), ([f"Bearer{TOKEN}"], False),
    ([f"Bearer\t{TOKEN}"], False), ([f"Bearer {TOKEN[:-1]}"], True), ([f"Bearer {TOKEN}x"], True),
    ([f"Bearer {TOKEN.upper()}"], True), ([f"Bearer {TOKEN} {TOKEN}"], True),
    ([f"Bearer {TOKEN}, Bearer {TOKEN}"], True), ([f"Bearer {TOKEN}"] * 2, True),
    ([f"Basic eDp5, Bearer {TOKEN}"], False), ([f"Bearer x, Bearer {TOKEN}"], True),
    ([f'Bearer token="{TOKEN}"'], True), (["Bearer é"], True), (["Bearer \xff"], True),
    ([f"Bearer {'a' * 8000}"], True), (["Bearer None"], True), (["Bearer {}"], True),
]  # fmt: skip


def test_the_scheme_is_of_either_case_and_all_else_is_401(api: Api) -> None:
    for authorization in RIGHT:
        headers = {"Authorization": authorization}
        assert api.client.get("/stats", headers=headers).status_code == 200, authorization
    for authorizations, is_bearer in WRONG:
        response = api.client.get(
            "/messages", headers=[("Authorization", a) for a in authorizations]
        )

        assert response.status_code == 401, authorizations
        assert ("error=invalid_token" in response.headers["WWW-Authenticate"]) == is_bearer


STATUSES = [
    ("GET", "/health", 200), ("GET", "/health/live", 200), ("GET", "/health/ready", 200),
    ("GET", "/docs", 200), ("GET", "/docs/docs.js", 200), ("GET", "/openapi.json", 200),
    ("GET", "/nope/", 404), ("GET", "/Messages", 404), ("GET", "/stats//", 404),
    ("POST", "/messages", 405), ("POST", "/messages/m1", 405), ("GET", "/nope", 404),
    ("GET", f"/messages?access_token={TOKEN}", 401), ("GET", f"/messages?token={TOKEN}", 401),
    ("GET", f"/messages?READ_TOKEN={TOKEN}", 401),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path", "status"), STATUSES)
def test_probes_the_description_and_unknown_paths_are_open_and_no_query_is_a_token(
    api: Api, method: str, path: str, status: int
) -> None:
    with api.client.open(path, method=method) as response:
        assert response.status_code == status


def test_the_description_says_what_needs_the_token(api: Api) -> None:
    document: Any = api.client.get("/openapi.json").json
    OpenAPIV31SpecValidator(document).validate()

    schemes = document["components"]["securitySchemes"]
    assert schemes["read_token"].items() >= {"type": "http", "scheme": "bearer"}.items()
    for path, item in document["paths"].items():
        for method, operation in item.items():
            refused = api.client.open(path, method=method).headers.get("WWW-Authenticate")
            assert ("read_token" in str(operation.get("security"))) == bool(refused)
            assert ("TokenNeeded" in str(operation["responses"].get("401"))) == bool(refused)


def test_without_a_token_the_description_has_no_scheme_for_it(config: Config) -> None:
    app = an_app(config)

    document = app.test_client().get("/openapi.json").text
    close_app(app)

    assert "read_token" not in document


def test_every_other_route_needs_the_token(app: Flask) -> None:
    open_rules = {
        rule.rule for rule in app.url_map.iter_rules()
        if app.test_client().open(rule.rule, method="OPTIONS").status_code != 401
    }  # fmt: skip

    assert open_rules == {
        "/webhook", "/health", "/health/live", "/health/ready", "/docs", "/docs/<path:filename>",
        "/openapi.json", "/",
        # Which ask for a login by themselves, see tests/inbox.
        "/inbox", "/inbox/messages/<int:row_id>", "/inbox/login", "/inbox/logout",
        "/inbox/consumers",
    }  # fmt: skip


def test_a_delivery_needs_its_signature_and_no_token(api: Api) -> None:
    body = encode(a_message())

    assert api.client.post("/webhook", data=body, headers=signed(body)).status_code == 200
    assert api.client.post("/webhook", data=body, headers=bearer()).status_code == 401
    assert (
        "WWW-Authenticate" not in api.client.post("/webhook", data=body, headers=bearer()).headers
    )


def test_refused_reads_are_no_deliveries_and_no_token_is_logged_or_sent_back(api: Api) -> None:
    refused = [
        api.client.get("/messages?from=%2B1", headers=bearer("wrong-guess")) for _ in range(3)
    ]
    lines = api.logged()
    metrics = api.client.get("/metrics", headers=bearer())
    series = samples(metrics.text)

    assert [line["status"] for line in lines] == [401] * 3
    assert {tuple(line) for line in lines} == {
        ("ts", "level", "request_id", "method", "path", "status", "latency_ms", "client")
    }
    assert series['http_requests_total{method="GET",path="/messages",status="401"}'] == 3
    assert series['webhook_requests_total{result="invalid_signature"}'] == 0
    seen = str([*api.logged(), *((reply.text, reply.headers) for reply in (*refused, metrics))])
    assert not re.search(f"{re.escape(TOKEN)}|wrong-guess", seen)
