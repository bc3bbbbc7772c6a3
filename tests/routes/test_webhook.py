"""POST /webhook: what is accepted is stored exactly once, as it was sent; the rest is named."""

import io
import json
from typing import Any

import pytest
from werkzeug.test import TestResponse

from tests.builders import a_message, encode, signed
from tests.conftest import Api

VALID = encode(a_message())
NONE_STORED = "SELECT count(*) FROM messages"
MARK = b"\xef\xbb\xbf"  # a byte order mark


def test_a_first_delivery_is_stored_with_the_time_and_answered_ok(api: Api) -> None:
    response = api.post(a_message())

    assert (response.status_code, response.json) == (200, {"status": "ok"})
    assert response.content_type == "application/json"
    assert api.rows("SELECT message_id, from_msisdn, to_msisdn, ts, text FROM messages") == [
        ("m1", "+919876543210", "+14155550100", "2025-01-15T10:00:00Z", "Hello")
    ]
    assert api.rows(
        "SELECT created_at GLOB '20[0-9][0-9]-[0-1][0-9]-[0-3][0-9]T[0-2][0-9]:*Z',"
        " abs(julianday(created_at) - julianday('now')) * 86400 < 60 FROM messages"
    ) == [(1, 1)]


@pytest.mark.parametrize(
    ("changed", "conflict"),
    [
        ({}, False), ({"extra": 1}, False), ({"text": "other"}, True), ({"text": None}, True),
        ({"text": ""}, True), ({"sender": "+1"}, True), ({"to": "+1"}, True),
        ({"ts": "2025-01-15T10:00:00.0Z"}, True),
    ],
    ids=str,
)  # fmt: skip
def test_a_second_delivery_is_ok_keeps_the_first_row_and_is_a_conflict_if_it_differs(
    api: Api, changed: dict[str, Any], conflict: bool
) -> None:
    api.post(a_message())
    before = api.rows("SELECT * FROM messages")

    response = api.post(a_message(**changed))

    assert (response.status_code, response.json) == (200, {"status": "ok"})
    assert api.rows("SELECT * FROM messages") == before
    _, line = api.logged()
    assert (line["result"], line["dup"]) == ("duplicate", True)
    assert line.get("conflict", False) == conflict == api.scrape()["webhook_conflicts_total"]


def test_ids_that_differ_in_case_or_after_a_nul_are_different(api: Api) -> None:
    for message_id in ["a", "A", "a\x00b", "a\x00c", "a ", "1", "01", "é", "e\u0301"]:
        assert api.post(a_message(message_id=message_id)).status_code == 200

    assert api.rows("SELECT count(*) FROM messages") == [(9,)]


@pytest.mark.parametrize(
    "content_type",
    [
        None, "application/json", "application/x-www-form-urlencoded", "text/plain",
        "multipart/form-data; boundary=x", "application/json; charset=latin-1", "nonsense",
    ],
)  # fmt: skip
def test_the_content_type_does_not_matter(api: Api, content_type: str | None) -> None:
    body = json.dumps(a_message(text="a=1&b=é+"), ensure_ascii=False).encode()

    sent = api.client.post("/webhook", data=body, headers=signed(body), content_type=content_type)

    assert sent.status_code == 200
    assert api.get("/messages")["data"] == [a_message(text="a=1&b=é+")]


GOOD_FIELDS: list[tuple[str, Any]] = [
    ("message_id", " "), ("message_id", "x" * 512), ("message_id", "a\x00b"),
    ("message_id", "é😀\u202e\ufeff"), ("message_id", "\uffff"), ("message_id", "\x01"),
    ("from", "+0"), ("to", "+" + "9" * 63),
    ("ts", "0001-01-01T00:00:00Z"), ("ts", "9999-12-31T23:59:59.999999999Z"),
    ("ts", "2024-02-29T00:00:00.1Z"), ("ts", "1969-12-31T23:59:59.5Z"),
    ("ts", "2025-01-15T10:00:00.000000000Z"),
    ("text", None), ("text", ""), ("text", "x" * 4096), ("text", "😀" * 4096),
    ("text", "a\x00b\x00"), ("text", "\x00"), ("text", "\x01\x7f\r\n\t\u2028"),
    ("text", "\ufffd\ufffe\uffff"),
]  # fmt: skip


@pytest.mark.parametrize("ascii_only", [True, False], ids=["escaped", "raw"])
def test_what_is_accepted_comes_back_as_it_was_sent(api: Api, ascii_only: bool) -> None:
    messages = [
        a_message(**{"message_id": f"m{n}", name: value})
        for n, (name, value) in enumerate(GOOD_FIELDS)
    ]

    for message in messages:
        response = api.post(json.dumps(message, ensure_ascii=ascii_only).encode())
        assert response.status_code == 200, ascii(message)

    found = {one["message_id"]: one for one in api.get("/messages", limit=100)["data"]}
    assert found == {one["message_id"]: one for one in messages}


NO_TEXT = a_message()
del NO_TEXT["text"]
# Gateways leave half an emoji when they cut a text in the middle of a character.
HALVES: dict[bytes, str] = {
    rb"xoxo \ud83d": "xoxo \ufffd",
    rb"\uDE00\uD83D": "\ufffd\ufffd",
    rb"\ud83d\ud83d\ude00.": "\ufffd😀.",
    rb"\\ud83d \ude00": "\\ud83d \ufffd",
}
UNKNOWN = ['"a\\u0000b"', "1e400", "-0", "[[[{}]]]", "[" * 150 + "]" * 150, "9" * 300, '""']


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (encode(NO_TEXT), None),
        (b'{"message_id": "first", ' + VALID[1:], "Hello"),  # the last of repeated keys counts
        *((VALID[:-1] + f', "extra": {extra}, "": 1}}'.encode(), "Hello") for extra in UNKNOWN),
        (VALID[:-1] + rb', "x": {"\ud83d": "\ude00", "y": 1e400}}', "Hello"),
        (MARK + VALID, "Hello"),
        *((VALID.replace(b"Hello", half), text) for half, text in HALVES.items()),
    ],
)
def test_text_may_be_left_out_or_cut_and_what_it_does_not_need_is_ignored(
    api: Api, body: bytes, text: str | None
) -> None:
    assert api.post(body).status_code == 200
    assert api.get("/messages")["data"] == [a_message(text=text)]


NOT_A_MESSAGE = {
    "empty": b"", "spaces": b"  ", "not json": b"hello", "cut short": VALID[:-1],
    "two values": VALID + VALID, "single quotes": VALID.replace(b'"', b"'"),
    "trailing comma": VALID[:-1] + b",}", "comment": VALID + b"// yes",
    "invalid utf-8": '{"message_id": "é"}'.encode("latin-1"),
    "overlong utf-8": b'{"message_id": "\xc0\xaf"}',
    "utf-16": VALID.decode().encode("utf-16"),
    "two byte order marks": MARK * 2 + VALID,
    "half an emoji in message_id": VALID.replace(b"m1", rb"\ud83d"),
    "half an emoji in from": VALID.replace(b"+91", rb"+91\ud83d"),
    "half an emoji in ts": VALID.replace(b"2025", rb"\ude00"),
    "half an emoji and NaN": VALID[:-1] + rb', "x": ["\ud83d", NaN]}',
    "half an emoji, nested": VALID[:-1] + rb', "x": %b"\ud83d"%b}' % (b"[" * 300, b"]" * 300),
    "half an escape": VALID.replace(b"Hello", rb"\ud83"),
    "surrogate bytes": VALID.replace(b"Hello", b"\xed\xa0\x80"),
    "raw control character": VALID.replace(b"Hello", b"a\nb"),
    "raw NUL": VALID.replace(b"Hello", b"a\x00b"),
    "NaN": VALID.replace(b'"Hello"', b"NaN"),
    "Infinity": VALID[:-1] + b', "x": Infinity}',
    "20,000 brackets": b"[" * 20_000, "20,000 nested": b"[" * 20_000 + b"]" * 20_000,
    "20,000 objects": b'{"a":' * 20_000,
    "a number of 5,000 digits": VALID[:-1] + b', "x": ' + b"9" * 5_000 + b"}",
    "null": b"null", "true": b"true", "a number": b"1", "a string": b'"m1"', "an array": b"[]",
    "an array of a message": b"[" + VALID + b"]", "no fields": b"{}",
}  # fmt: skip


def assert_unprocessable(response: TestResponse, *locs: str) -> None:
    """Assert that a refusal names `locs`, and echoes nothing of what was sent."""
    assert response.status_code == 422
    assert response.json is not None
    assert list(response.json) == ["detail"]
    errors = response.json["detail"]
    for error in errors:
        assert list(error) == ["type", "loc", "msg"]
        assert error["loc"][0] == "body"
        assert error["type"]
        assert error["msg"]
    assert errors
    assert not locs or [error["loc"][1:2] for error in errors] == [[loc] for loc in locs]
    assert "private" not in response.text


def test_a_signed_body_that_is_not_a_message_is_422(api: Api) -> None:
    for body in NOT_A_MESSAGE.values():
        assert_unprocessable(api.post(body))
    assert api.rows(NONE_STORED) == [(0,)]


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
MISSING = object()
BAD_VALUES = {
    "message_id": [MISSING, "", None, "x" * 513, *OTHER_TYPES],
    "from": [MISSING, None, *OTHER_TYPES, *NUMBERS],
    "to": [MISSING, None, *OTHER_TYPES, *NUMBERS],
    "ts": [MISSING, None, 1736935200, *OTHER_TYPES, *MOMENTS],
    "text": [*OTHER_TYPES, "private" * 600, "x" * 4097, "😀" * 4097],
}


@pytest.mark.parametrize("name", BAD_VALUES)
def test_a_field_that_breaks_its_rule_or_is_missing_is_422_and_named(api: Api, name: str) -> None:
    for value in BAD_VALUES[name]:
        payload = a_message(**{name: value})
        if value is MISSING:
            del payload[name]

        assert_unprocessable(api.post(payload), name)
    response = api.post({"message_id": 1, "from": "private", "to": "+1"})
    assert_unprocessable(response, "message_id", "from", "ts")
    assert api.rows(NONE_STORED) == [(0,)]


RIGHT = signed(VALID)["X-Signature"]
WRONG = [
    None, "", "123", "é", "ÿ" * 64, "sha256=", "0" * 64, "sha256=" + "0" * 64, "\u0080", "Ａ" * 16,
    "sha1=" + "0" * 40, signed(VALID, "another")["X-Signature"],
]  # fmt: skip


@pytest.mark.parametrize("signature", WRONG, ids=ascii)
def test_a_wrong_signature_is_401_and_stores_nothing(api: Api, signature: str | None) -> None:
    # As a WSGI server passes on any bytes.
    header = {"HTTP_X_SIGNATURE": signature.encode().decode("latin-1")} if signature else {}
    for body in (VALID, b"not json"):
        response = api.client.post("/webhook?x=1", data=body, environ_overrides=header)

        assert (response.status_code, response.json) == (401, {"detail": "invalid signature"})
    assert api.rows(NONE_STORED) == [(0,)]


def test_the_signature_is_one_and_of_the_bytes_as_they_came(api: Api) -> None:
    spaced = json.dumps(a_message(), indent=2).encode()
    compact = json.dumps(a_message(), separators=(",", ":")).encode()
    twice = [("X-Signature", RIGHT)] * 2

    assert api.client.post("/webhook", data=VALID, headers=twice).status_code == 401
    assert api.client.post("/webhook", data=spaced, headers=signed(compact)).status_code == 401
    assert api.client.post("/webhook", data=spaced, headers=signed(spaced)).status_code == 200


LIMIT = 262_144


def padded(length: int, **fields: Any) -> bytes:
    """Return a valid body of exactly `length` bytes: JSON may have spaces around it."""
    return encode(a_message(**fields)).ljust(length)


def post_stream(api: Api, body: bytes, **environ: Any) -> tuple[TestResponse, int]:
    """Deliver what is not read yet; return the answer and how much of the body was read."""
    stream, headers = io.BytesIO(body), signed(body)
    response = api.client.post(
        "/webhook", input_stream=stream, headers=headers, environ_overrides=environ
    )
    return response, stream.tell()


def post_chunked(api: Api, body: bytes) -> tuple[TestResponse, int]:
    chunked = {"wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"}
    return post_stream(api, body, **chunked)


def test_a_body_of_the_limit_is_accepted_and_a_byte_more_is_413(api: Api) -> None:
    largest = api.post(padded(LIMIT, message_id="sized"))
    largest_chunked, _ = post_chunked(api, padded(LIMIT, message_id="chunked"))
    too_large = api.post(padded(LIMIT + 1))
    too_large_chunked, _ = post_chunked(api, padded(LIMIT + 1))

    assert (largest.status_code, largest_chunked.status_code) == (200, 200)
    assert (too_large.status_code, too_large_chunked.status_code) == (413, 413)
    assert too_large.json == too_large_chunked.json
    assert "262144 bytes" in too_large.text
    assert api.rows("SELECT message_id FROM messages ORDER BY 1") == [("chunked",), ("sized",)]


def test_a_body_that_is_too_large_is_refused_before_it_is_read(api: Api) -> None:
    announced, read_of_it = post_stream(api, b"x" * 100, CONTENT_LENGTH="2000000000")
    endless, read = post_chunked(api, b" " * 10 * LIMIT)
    unsigned = api.client.post("/webhook", data=padded(LIMIT + 1), headers={"X-Signature": "no"})

    assert (announced.status_code, read_of_it) == (413, 0)
    assert (endless.status_code, read) == (413, LIMIT + 1)
    assert unsigned.status_code == 413
