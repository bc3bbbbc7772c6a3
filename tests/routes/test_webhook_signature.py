"""POST /webhook: the signature, of the bytes as they came."""

import json
from typing import Any

import pytest
from flask.testing import FlaskClient

from tests.builders import a_message, encode, signed
from tests.conftest import Rows
from webhook_api.intake.signature import sign

VALID = encode(a_message())


@pytest.mark.parametrize(
    "signature",
    [
        "", "123", "é", "ÿ" * 64, "sha256=", "0" * 64, "sha256=" + "0" * 64, "\u0080",
        "Ａ" * 16, "sha1=" + "0" * 40,
    ],
    ids=ascii,
)  # fmt: skip
def test_a_wrong_signature_is_401_and_stores_nothing(
    client: FlaskClient, rows: Rows, signature: str
) -> None:
    body = encode(a_message())

    raw = signature.encode().decode("latin-1")  # as a WSGI server passes on any bytes
    response = client.post("/webhook", data=body, environ_overrides={"HTTP_X_SIGNATURE": raw})

    assert (response.status_code, response.json) == (401, {"detail": "invalid signature"})
    assert rows("SELECT count(*) FROM messages") == [(0,)]


def test_no_signature_is_401(client: FlaskClient) -> None:
    response = client.post("/webhook", data=encode(a_message()))

    assert (response.status_code, response.json) == (401, {"detail": "invalid signature"})


@pytest.mark.parametrize(
    "write",
    [
        str.upper,
        "sha256={}".format,
        lambda s: f"sha256={s.upper()}",
        lambda s: s[:9] + s[9:].upper(),
    ],
)
def test_a_signature_may_be_of_either_case_and_prefixed(client: FlaskClient, write: Any) -> None:
    body = encode(a_message())

    headers = {"X-Signature": write(signed(body)["X-Signature"])}
    response = client.post("/webhook", data=body, headers=headers)

    assert response.status_code == 200


def test_two_signature_headers_are_401(client: FlaskClient) -> None:
    body = encode(a_message())
    signature = signed(body)["X-Signature"]

    response = client.post(
        "/webhook", data=body, headers=[("X-Signature", signature), ("X-Signature", signature)]
    )

    assert response.status_code == 401


def test_the_signature_is_of_the_bytes_as_they_came(client: FlaskClient) -> None:
    spaced = json.dumps(a_message(), indent=2).encode()
    compact = json.dumps(a_message(), separators=(",", ":")).encode()

    assert client.post("/webhook", data=spaced, headers=signed(compact)).status_code == 401
    assert client.post("/webhook", data=spaced, headers=signed(spaced)).status_code == 200


def test_a_body_is_not_read_before_its_signature_is_right(client: FlaskClient) -> None:
    response = client.post("/webhook", data=b"not json", headers=signed(b"something else"))

    assert response.status_code == 401


@pytest.mark.parametrize("path", ["/webhook", "/webhook?x=1"])
def test_the_secret_is_the_key(client: FlaskClient, path: str) -> None:
    wrong = client.post(path, data=VALID, headers={"X-Signature": sign("another", VALID)})
    right = client.post(path, data=VALID, headers=signed(VALID))

    assert (wrong.status_code, right.status_code) == (401, 200)
