"""POST /webhook: how long a body may be, and one that ends early."""

import io
from typing import Any

from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from tests.builders import a_message, encode, signed
from tests.conftest import Api

LIMIT = 262_144


def padded(length: int, payload: dict[str, Any] | None = None) -> bytes:
    """Return a valid body of exactly `length` bytes: JSON may have spaces around it."""
    return encode(payload or a_message()).ljust(length)


def post_chunked(client: FlaskClient, body: bytes) -> tuple[TestResponse, int]:
    """Deliver without Content-Length; return the answer and how much of the body was read."""
    stream = io.BytesIO(body)
    response = client.post(
        "/webhook",
        input_stream=stream,
        headers=signed(body),
        environ_overrides={"wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"},
    )
    return response, stream.tell()


def test_a_body_of_the_limit_is_accepted_and_a_byte_more_is_413(api: Api) -> None:
    largest = api.post(padded(LIMIT, a_message(message_id="sized")))
    largest_chunked, _ = post_chunked(api.client, padded(LIMIT, a_message(message_id="chunked")))
    too_large = api.post(padded(LIMIT + 1))
    too_large_chunked, _ = post_chunked(api.client, padded(LIMIT + 1))

    assert (largest.status_code, largest_chunked.status_code) == (200, 200)
    assert (too_large.status_code, too_large_chunked.status_code) == (413, 413)
    assert too_large.json == too_large_chunked.json
    assert "262144 bytes" in too_large.text
    assert api.rows("SELECT message_id FROM messages ORDER BY 1") == [("chunked",), ("sized",)]


def test_a_body_announced_as_too_large_is_refused_unread_whatever_its_signature(api: Api) -> None:
    stream = io.BytesIO(b"x" * 100)

    response = api.client.post(
        "/webhook", input_stream=stream, environ_overrides={"CONTENT_LENGTH": "2000000000"}
    )

    assert (response.status_code, stream.tell()) == (413, 0)


def test_an_endless_body_is_read_until_a_byte_above_the_limit(api: Api) -> None:
    response, read = post_chunked(api.client, b" " * 10 * LIMIT)
    unsigned = api.client.post("/webhook", data=padded(LIMIT + 1), headers={"X-Signature": "wrong"})

    assert (response.status_code, read) == (413, LIMIT + 1)
    assert unsigned.status_code == 413


def test_a_body_that_ends_early_is_408_and_stores_nothing(api: Api) -> None:
    body = encode(a_message())

    response = api.client.post(
        "/webhook",
        input_stream=io.BytesIO(body),
        headers=signed(body),
        environ_overrides={"CONTENT_LENGTH": str(len(body) + 1)},
    )

    assert response.status_code == 408
    assert list(response.json or {}) == ["detail"]
    assert api.rows("SELECT count(*) FROM messages") == [(0,)]
    assert [line["result"] for line in api.logged()] == ["incomplete"]
