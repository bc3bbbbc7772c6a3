"""POST /webhook: the seal, the address, and filing exactly once."""

from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient

from tests.builders import a_message, encode, signed
from tests.conftest import Post

Rows = Callable[[str], list[Any]]


def test_a_first_delivery_is_filed_and_answered_ok(post_signed: Post, rows: Rows) -> None:
    response = post_signed(a_message())

    assert (response.status_code, response.json) == (200, {"status": "ok"})
    assert rows("SELECT message_id, from_msisdn, to_msisdn, ts, text FROM messages") == [
        ("m1", "+919876543210", "+14155550100", "2025-01-15T10:00:00Z", "Hello")
    ]


def test_a_second_delivery_is_answered_ok_and_keeps_the_first_row(
    post_signed: Post, rows: Rows
) -> None:
    post_signed(a_message(text="first"))

    response = post_signed(a_message(text="second"))

    assert (response.status_code, response.json) == (200, {"status": "ok"})
    assert rows("SELECT text FROM messages") == [("first",)]


@pytest.mark.parametrize("signature", ["", "123", "é", "0" * 64, "sha256=" + "0" * 64])
def test_a_wrong_signature_is_401_and_files_nothing(
    client: FlaskClient, rows: Rows, signature: str
) -> None:
    body = encode(a_message())

    response = client.post("/webhook", data=body, headers={"X-Signature": signature})

    assert (response.status_code, response.json) == (401, {"detail": "invalid signature"})
    assert rows("SELECT count(*) FROM messages") == [(0,)]


def test_a_body_is_not_looked_at_before_its_signature_held(client: FlaskClient) -> None:
    response = client.post("/webhook", data=b"not json", headers=signed(b"something else"))

    assert response.status_code == 401
