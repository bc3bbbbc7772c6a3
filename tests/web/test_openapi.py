"""GET /openapi.json: a valid description that leaves nothing out."""

import gzip
import hashlib
import json
import re
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from jsonschema_rs import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from pydantic import BaseModel
from werkzeug.test import TestResponse

from tests.builders import SECRET, a_message
from tests.conftest import Api
from webhook_api.config import Config
from webhook_api.errors import RETRY_AFTER_S, RequestRefused
from webhook_api.intake.signature import sign
from webhook_api.models import FeedQuery, InboundMessage, MessageQuery, StatsQuery
from webhook_api.providers import meta
from webhook_api.providers.delivery import MAX_MESSAGES
from webhook_api.store.messages import remove_messages
from webhook_api.web.openapi import ASSETS, describe_api

DOCUMENT = describe_api()
OPERATIONS = [
    (method, path, operation)
    for path, item in DOCUMENT["paths"].items()
    for method, operation in item.items()
]


def test_it_is_valid_openapi(api: Api) -> None:
    document = api.client.get("/openapi.json").json

    assert document == DOCUMENT
    assert document["openapi"] == "3.1.0"
    OpenAPIV31SpecValidator(document).validate()


def test_every_route_is_in_it_and_nothing_else(app: Flask) -> None:
    described = {(method.upper(), path) for method, path, _ in OPERATIONS}

    served = {
        (method, re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule))
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        if rule.rule != "/" and rule.endpoint.split(".")[0] != "inbox"  # pages for people
    }
    assert described == served


@pytest.mark.parametrize(
    ("models", "described"),
    [
        ([MessageQuery, FeedQuery], DOCUMENT["paths"]["/messages"]["get"]["parameters"]),
        ([StatsQuery], DOCUMENT["paths"]["/stats"]["get"]["parameters"]),
        ([InboundMessage], [
            {"name": name, **field}
            for name, field in
            DOCUMENT["components"]["schemas"]["InboundMessage"]["properties"].items()
        ]),
    ],
    ids=["messages", "stats", "webhook"],
)  # fmt: skip
def test_every_field_is_described(models: list[type[BaseModel]], described: list[Any]) -> None:
    fields = {field.alias or name for model in models for name, field in model.model_fields.items()}

    assert {each["name"] for each in described} == fields
    assert all(each["description"] for each in described)


def test_every_refusal_of_the_webhook_is_described() -> None:
    responses = DOCUMENT["paths"]["/webhook"]["post"]["responses"]

    refusals = {str(int(refusal.status)) for refusal in RequestRefused.__subclasses__()}
    assert set(responses) == {"200", "500"} | refusals


@pytest.mark.parametrize(("method", "path", "operation"), OPERATIONS)
def test_every_reply_names_its_headers(method: str, path: str, operation: dict[str, Any]) -> None:
    for status in operation["responses"]:
        headers = response_of(path, method, status)["headers"]

        assert "X-Request-ID" in headers
        assert ("Retry-After" in headers) == (status == "503")
        assert "Link" in headers or (path, status) != ("/messages", "200")


def consumer_replies(
    app: Flask, config: Config, client: FlaskClient
) -> list[tuple[str, TestResponse]]:
    """A reply to each request about consumers; afterwards there is none."""
    path = "/consumers/{name}"

    def put(name: str, position: str, **headers: str) -> tuple[str, TestResponse]:
        sent = {key.replace("_", "-"): value for key, value in headers.items()}
        body = {"position": position}
        return path, client.put(f"/consumers/{name}", json=body, headers=bearer | sent)

    bearer = {"Authorization": "Bearer a"}
    refused = [put("a", "start"), (path, client.delete("/consumers/a"))]
    app.config["SETTINGS"] = replace(config, read_token="a")
    replies = [
        put("a", "now", If_None_Match="*"),
        put("a", "now", If_None_Match="*"),
        put("a", "start", If_Match="*"),
        put("a", "start"),
        put("a", "7", If_Match="*"),
        put("a", "99.aaaaaaaa", If_Match="*"),
        put("A", "start", If_Match="*"),
        put("b", "start", If_Match="*"),
        *(put(f"c{number}", "start", If_None_Match="*") for number in range(64)),
        ("/consumers", client.get("/consumers")),
        (path, client.get("/consumers/a")),
        ("/messages", client.get("/messages?consumer=a")),
        *((path, client.delete("/consumers/a")) for _ in range(2)),
        ("/messages", client.get("/messages?consumer=a")),
    ]
    app.config["SETTINGS"] = config
    return [*refused, *replies]


def test_replies_are_as_described(api: Api) -> None:
    api.post(a_message(message_id="gone"))
    remove_messages(api.writer, [1])
    api.post(a_message())
    ndjson = {"Accept": "application/x-ndjson"}
    replies = [
        ("/webhook", api.post(a_message())),
        ("/webhook", api.client.post("/webhook", data=b"{}")),
        ("/webhook", api.post(b"{}")),
        ("/webhook", api.client.post("/webhook", data=b"0" * 300_000)),
        (
            "/webhook",
            api.client.post("/webhook", data=b"{", environ_overrides={"CONTENT_LENGTH": "9"}),
        ),
        ("/messages", api.client.get("/messages")),
        ("/messages", api.client.get("/messages", headers=ndjson)),
        ("/messages", api.client.get("/messages?since=now")),
        ("/messages", api.client.get("/messages?after=start")),
        ("/messages", api.client.get("/messages?after=99.aaaaaaaa")),
        *consumer_replies(api.app, api.config, api.client),
        ("/messages/{message_id}", api.client.get("/messages/m1")),
        ("/messages/{message_id}", api.client.get("/messages/m2")),
        ("/messages/{message_id}", api.client.get("/messages/gone")),
        ("/stats", api.client.get("/stats")),
        ("/stats", api.client.get("/stats?until=now")),
        ("/health", api.client.get("/health")),
        ("/health/live", api.client.get("/health/live")),
        ("/health/ready", api.client.get("/health/ready")),
        ("/metrics", api.client.get("/metrics")),
        ("/openapi.json", api.client.get("/openapi.json")),
        ("/docs", api.client.get("/docs")),
        *(("/docs/{filename}", api.client.get(f"/docs/{file.name}")) for file in ASSETS.iterdir()),
        ("/docs/{filename}", api.client.get("/docs/nothing")),
        ("/docs/{filename}", api.client.get("/docs/docs.js", headers={"Range": "bytes=0-9"})),
        ("/docs/{filename}", api.client.get("/docs/docs.js", headers={"Range": "bytes=99999-"})),
        ("/docs/{filename}", api.client.get("/docs/docs.js", headers={"If-Match": '"other"'})),
    ]

    for path, response in replies:
        check(path, response)
        response.close()

    seen = {(path, str(response.status_code)) for path, response in replies}
    described = {
        (path, status) for _, path, operation in OPERATIONS for status in operation["responses"]
    }
    # Other tests see these, nobody a 500.
    others = {status for _, status in described - seen}
    assert others == {"500", "503", "304", "400"}


def test_replies_without_a_database_are_as_described(api: Api) -> None:
    api.path.rename(api.path.with_name("elsewhere"))

    replies = [
        ("/webhook", api.post(a_message())),
        *(
            (path, api.client.get(path))
            for path in ("/messages", "/stats", "/health/ready", "/health")
        ),
        ("/messages/{message_id}", api.client.get("/messages/m1")),
    ]

    for path, response in replies:
        assert response.status_code == 503
        check(path, response)


@pytest.mark.parametrize(
    ("name", "method", "path"),
    [("NotFound", "GET", "/nope"), ("MethodNotAllowed", "PUT", "/stats")],
)
def test_replies_to_unknown_paths_and_methods_are_as_described(
    api: Api, name: str, method: str, path: str
) -> None:
    response = api.client.open(path, method=method)

    check_reply(DOCUMENT["components"]["responses"][name], response)


def test_examples_are_accepted_by_what_they_are_examples_of(api: Api) -> None:
    for method, path, operation in OPERATIONS:
        for status in operation["responses"]:
            for media_type, content in response_of(path, method, status)["content"].items():
                if media_type == "application/json" and "example" in content:
                    validator(json.dumps(content["schema"])).validate(content["example"])
    examples = DOCUMENT["paths"]["/webhook"]["post"]["requestBody"]["content"]["application/json"]
    for example in examples["examples"].values():
        assert api.post(example["value"]).status_code == 200


def test_the_signed_example_is_accepted_unchanged(api: Api) -> None:
    example = DOCUMENT["components"]["securitySchemes"]["signature"]["x-example"]
    body, signature = example["body"].encode(), example["signature"]

    response = api.client.post("/webhook", data=body, headers={"X-Signature": signature})

    assert example["secret"] == SECRET
    assert sign(SECRET, body) == signature  # which was made with openssl
    assert response.status_code == 200
    about = DOCUMENT["paths"]["/webhook"]["post"]["description"]
    assert f"BODY='{example['body']}'" in about
    assert f"`{SECRET}` the signature of these {len(body)} bytes is\n`{signature}`." in about


def test_the_limits_and_the_next_page_that_it_names_hold(api: Api) -> None:
    about = describe_api(frozenset({"meta"}))["paths"]["/webhook/meta"]["post"]["description"]
    headers = DOCUMENT["components"]["headers"]

    assert f"At most {meta.MAX_BODY_BYTES:,} bytes;" in about
    assert f"more than {MAX_MESSAGES:,} messages" in about
    assert headers["Retry-After"]["example"] == RETRY_AFTER_S
    next_page = headers["Link"]["example"].removeprefix("<").partition(">")[0]
    assert api.client.get(next_page).status_code == 200


def test_the_page_sends_nothing_unasked_and_shows_no_markdown() -> None:
    for _, _, operation in OPERATIONS:
        assert "`" not in operation["summary"]
        for parameter in operation.get("parameters", []):
            assert not parameter.keys() & {"example", "examples"}


@pytest.mark.parametrize("name", ["swagger-ui-bundle.js", "swagger-ui.css"])
def test_large_files_are_sent_packed_if_accepted_and_only_once(api: Api, name: str) -> None:
    packed = get_file(api.client, name, {"Accept-Encoding": "br, gzip;q=0.5"})
    plain = get_file(api.client, name, {"Accept-Encoding": "gzip;q=0, br"})

    assert packed.headers["Content-Encoding"] == "gzip"
    assert "Content-Encoding" not in plain.headers
    assert gzip.decompress(packed.data) == plain.data
    assert len(packed.data) < len(plain.data) / 3
    assert packed.mimetype == plain.mimetype != "application/gzip"
    assert packed.headers["ETag"] != plain.headers["ETag"]
    for encoding, first in (("gzip", packed), ("identity", plain)):
        known = {"Accept-Encoding": encoding, "If-None-Match": first.headers["ETag"]}
        again = get_file(api.client, name, known)
        assert (again.status_code, again.data) == (304, b"")
        assert again.headers["Vary"] == first.headers["Vary"] == "Accept-Encoding"
        assert first.headers["Cache-Control"] == "no-cache"


@pytest.mark.parametrize(
    "name", ["swagger-ui.css.gz", "../openapi.py", "..%2fopenapi.py", "nothing", "/"]
)
def test_no_other_file_is_sent(api: Api, name: str) -> None:
    assert api.client.get(f"/docs/{name}").status_code == 404


def test_vendored_files_have_the_recorded_digests() -> None:
    noted = re.findall(r"^    ([0-9a-f]{64})  (\S+)$", (ASSETS / "VENDORED.md").read_text(), re.M)

    kept = {file.name.removesuffix(".gz") for file in ASSETS.glob("swagger-ui*")}
    assert {name for _, name in noted} == kept
    for checksum, name in noted:
        packed = ASSETS / f"{name}.gz"
        content = (
            gzip.decompress(packed.read_bytes())
            if packed.exists()
            else (ASSETS / name).read_bytes()
        )
        assert hashlib.sha256(content).hexdigest() == checksum


def get_file(client: FlaskClient, name: str, headers: dict[str, str]) -> TestResponse:
    response = client.get(f"/docs/{name}", headers=headers)
    assert response.data is not None  # which reads it, before the file is closed
    response.close()
    return response


def resolve(described: Any) -> Any:
    """Return what a reference in the document points to; other values are returned unchanged."""
    while "$ref" in described:
        place: Any = DOCUMENT
        for key in described["$ref"].removeprefix("#/").split("/"):
            place = place[key]
        described = place
    return described


def response_of(path: str, method: str, status: str) -> Any:
    return resolve(DOCUMENT["paths"][path][method]["responses"][status])


@cache
def validator(schema: str) -> Draft202012Validator:
    return Draft202012Validator({**json.loads(schema), "components": DOCUMENT["components"]})


def check(path: str, response: TestResponse) -> None:
    """Assert that the document describes `response` for `path`, with its headers."""
    method = response.request.method.lower()
    check_reply(response_of(path, method, str(response.status_code)), response)


def check_reply(described: Any, response: TestResponse) -> None:
    headers = {name: resolve(header) for name, header in described["headers"].items()}
    required = {name for name, header in headers.items() if header.get("required")}
    assert required <= set(response.headers.keys())
    for name in set(headers) & set(response.headers.keys()):
        value: Any = response.headers[name]
        integer = headers[name]["schema"]["type"] == "integer"
        validator(json.dumps(headers[name]["schema"])).validate(int(value) if integer else value)
    content = described["content"]
    assert not content or response.mimetype in content
    if response.mimetype == "application/json":
        validator(json.dumps(content["application/json"]["schema"])).validate(response.json)
