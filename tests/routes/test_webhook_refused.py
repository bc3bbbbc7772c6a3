"""POST /webhook: which bodies and fields are refused, and how they are named."""

from typing import Any

import pytest
from werkzeug.test import TestResponse

from tests.builders import a_message, encode
from tests.conftest import Api

LATIN = '{"message_id": "é"}'.encode("latin-1")

VALID = encode(a_message())

NOT_A_MESSAGE = {
    "empty": b"",
    "spaces": b"  ",
    "not json": b"hello",
    "cut short": VALID[:-1],
    "two values": VALID + VALID,
    "single quotes": VALID.replace(b'"', b"'"),
    "trailing comma": VALID[:-1] + b",}",
    "comment": VALID + b"// yes",
    "invalid utf-8": LATIN,
    "overlong utf-8": b'{"message_id": "\xc0\xaf"}',
    "utf-16": VALID.decode().encode("utf-16"),
    "two byte order marks": b"\xef\xbb\xbf" * 2 + VALID,
    "half an emoji in message_id": VALID.replace(b"m1", rb"\ud83d"),
    "half an emoji in from": VALID.replace(b"+91", rb"+91\ud83d"),
    "half an emoji in ts": VALID.replace(b"2025", rb"\ude00"),
    "half an emoji and NaN": VALID[:-1] + rb', "x": ["\ud83d", NaN]}',
    "half an emoji, nested": b'{"x":' * 300 + rb'"\ud83d"' + b"}" * 300,
    "half an escape": VALID.replace(b"Hello", rb"\ud83"),
    "surrogate bytes": VALID.replace(b"Hello", b"\xed\xa0\x80"),
    "raw control character": VALID.replace(b"Hello", b"a\nb"),
    "raw NUL": VALID.replace(b"Hello", b"a\x00b"),
    "NaN": VALID.replace(b'"Hello"', b"NaN"),
    "Infinity": VALID[:-1] + b', "x": Infinity}',
    "20,000 brackets": b"[" * 20_000,
    "20,000 nested": b"[" * 20_000 + b"]" * 20_000,
    "20,000 objects": b'{"a":' * 20_000,
    "a number of 5,000 digits": VALID[:-1] + b', "x": ' + b"9" * 5_000 + b"}",
    "null": b"null",
    "true": b"true",
    "a number": b"1",
    "a string": b'"m1"',
    "an array": b"[]",
    "an array of a message": b"[" + VALID + b"]",
    "no fields": b"{}",
}


def assert_unprocessable(response: TestResponse, *locs: str) -> None:
    """Assert that a refusal names `locs`, and echoes nothing of what was sent."""
    assert response.status_code == 422
    assert response.json is not None
    assert list(response.json) == ["detail"]
    for error in response.json["detail"]:
        assert list(error) == ["type", "loc", "msg"]
        assert error["loc"][0] == "body"
        assert error["type"]
        assert error["msg"]
    assert [error["loc"][1:2] for error in response.json["detail"]] == [[loc] for loc in locs] or (
        not locs and response.json["detail"]
    )
    assert "private" not in response.text


def test_a_signed_body_that_is_not_a_message_is_422(api: Api) -> None:
    for body in NOT_A_MESSAGE.values():
        assert_unprocessable(api.post(body))
    assert api.rows("SELECT count(*) FROM messages") == [(0,)]


NUMBERS = [
    "", "+", "919", " +919", "+919 ", "+919\n", "+91-9", "+91 9", "++91", "+٩١", "+９１", "+91a",
    "+" + "9" * 64,
]  # fmt: skip
MOMENTS = [
    "", "2025-01-15", "2025-01-15T10:00:00", "2025-01-15T10:00:00z", "2025-01-15t10:00:00Z",
    "2025-01-15 10:00:00Z", "2025-01-15T10:00:00+00:00", "2025-01-15T10:00:00,5Z",
    "2025-01-15T10:00:00.Z", "2025-01-15T10:00:00.1234567890Z", "2025-01-15T10:00:00Z\n",
    " 2025-01-15T10:00:00Z", "2025-02-30T10:00:00Z", "2025-02-29T10:00:00Z",
    "2025-13-01T10:00:00Z", "2025-00-01T10:00:00Z", "2025-01-00T10:00:00Z",
    "2025-01-15T24:00:00Z", "2025-01-15T10:60:00Z", "2025-01-15T23:59:60Z",
    "0000-01-01T00:00:00Z", "10000-01-01T00:00:00Z", "-001-01-01T00:00:00Z",
    "٢٠٢٥-01-15T10:00:00Z", "2025-1-15T10:00:00Z", "20250115T100000Z", "2025-W03-3T10:00:00Z",
    "2025-01-15T10:00Z", "2025-01-15T10:00:0٠Z",
]  # fmt: skip
OTHER_TYPES: list[Any] = [1, 1.5, True, ["+91"], {"a": 1}]
BAD_VALUES = {
    "message_id": ["", None, "x" * 513, *OTHER_TYPES],
    "from": [None, *OTHER_TYPES, *NUMBERS],
    "to": [None, *OTHER_TYPES, *NUMBERS],
    "ts": [None, 1736935200, *OTHER_TYPES, *MOMENTS],
    "text": [*OTHER_TYPES, "private" * 600, "x" * 4097, "😀" * 4097],
}


MISSING = object()


@pytest.mark.parametrize("name", BAD_VALUES)
def test_a_field_that_breaks_its_rule_or_is_missing_is_422_and_named(api: Api, name: str) -> None:
    for value in [*BAD_VALUES[name], *([MISSING] if name != "text" else [])]:
        payload = a_message(**{name: value})
        if value is MISSING:
            del payload[name]

        assert_unprocessable(api.post(payload), name)
    assert api.rows("SELECT count(*) FROM messages") == [(0,)]


def test_every_wrong_field_is_named_at_once(api: Api) -> None:
    response = api.post({"message_id": 1, "from": "private", "to": "+1"})

    assert_unprocessable(response, "message_id", "from", "ts")
