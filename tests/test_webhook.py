"""POST /webhook: signature, validation, and storing exactly once."""

import io
import json
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from tests.builders import a_message, encode, signed
from tests.conftest import Get, Logged, Post, Rows, Scrape, Store
from webhook_api.intake.signature import sign

LIMIT = 262_144
COUNT = "SELECT count(*) FROM messages"


def padded(length: int, payload: dict[str, Any] | None = None) -> bytes:
    """Return a valid body of exactly `length` bytes: JSON may have spaces around it."""
    return encode(payload or a_message()).ljust(length)


def test_a_first_delivery_is_stored_and_answered_ok(post_signed: Post, rows: Rows) -> None:
    response = post_signed(a_message())

    assert (response.status_code, response.json) == (200, {"status": "ok"})
    assert response.content_type == "application/json"
    assert rows("SELECT message_id, from_msisdn, to_msisdn, ts, text FROM messages") == [
        ("m1", "+919876543210", "+14155550100", "2025-01-15T10:00:00Z", "Hello")
    ]


def test_the_server_time_of_storing_is_kept(post_signed: Post, rows: Rows) -> None:
    post_signed(a_message())

    ((matches,),) = rows(
        "SELECT created_at GLOB '20[0-9][0-9]-[0-1][0-9]-[0-3][0-9]T[0-2][0-9]:*Z'"
        " AND abs(julianday(created_at) - julianday('now')) * 86400 < 60 FROM messages"
    )
    assert matches


def test_a_second_delivery_is_answered_ok_and_keeps_the_first_row(
    post_signed: Post, rows: Rows
) -> None:
    post_signed(a_message(text="first"))

    response = post_signed(a_message(text="second"))

    assert (response.status_code, response.json) == (200, {"status": "ok"})
    assert rows("SELECT text FROM messages") == [("first",)]


@pytest.mark.parametrize(
    ("changed", "conflict"),
    [
        ({}, False),
        ({"extra": 1}, False),
        ({"text": "other"}, True),
        ({"text": None}, True),
        ({"text": ""}, True),
        ({"sender": "+1"}, True),
        ({"to": "+1"}, True),
        ({"ts": "2025-01-15T10:00:00.0Z"}, True),
    ],
    ids=str,
)
def test_a_duplicate_is_a_conflict_when_its_content_differs(
    post_signed: Post, logged: Logged, scrape: Scrape, changed: dict[str, Any], conflict: bool
) -> None:
    post_signed(a_message())

    post_signed(a_message(**changed))

    _, line = logged()
    assert (line["result"], line["dup"], line.get("conflict", False)) == (
        "duplicate", True, conflict,
    )  # fmt: skip
    assert scrape()["webhook_conflicts_total"] == conflict


def test_each_message_of_a_batch_has_its_own_result(store: Store) -> None:
    store(a_message(message_id="old"))

    results = store(
        a_message(message_id="a"),
        a_message(message_id="old"),
        a_message(message_id="b"),
        a_message(message_id="a"),
        a_message(message_id="old", text="other"),
        a_message(message_id="b", text="other"),
        a_message(message_id="c"),
    )

    assert [tuple(one) for one in results] == [
        (True, False), (False, False), (True, False), (False, False),
        (False, True), (False, True), (True, False),
    ]  # fmt: skip


@pytest.mark.parametrize("batch", [["a", "a", "a"], ["b", "a", "b", "a", "c"], ["old", "old"]])
def test_the_first_message_of_each_id_in_a_batch_is_stored(
    store: Store, rows: Rows, batch: list[str]
) -> None:
    store(a_message(message_id="old", text="0"))
    payloads = [a_message(message_id=name, text=str(n)) for n, name in enumerate(batch, start=1)]

    results = store(*payloads)

    first = {name: str(batch.index(name) + 1) for name in batch} | {"old": "0"}
    assert [one.created for one in results] == [
        name != "old" and batch.index(name) == n for n, name in enumerate(batch)
    ]
    assert dict(rows("SELECT message_id, text FROM messages")) == first


def test_fifty_deliveries_of_one_id_at_once_store_one_row(
    app: Flask, rows: Rows, logged: Logged
) -> None:
    together = threading.Barrier(50)
    body = encode(a_message())

    def deliver(_: int) -> TestResponse:
        together.wait()
        return app.test_client().post("/webhook", data=body, headers=signed(body))

    with ThreadPoolExecutor(50) as threads:
        answers = Counter(answer.status_code for answer in threads.map(deliver, range(50)))

    # More than may wait at once are told to come again, and each of these is stored or repeats.
    while answers.pop(503, 0):
        answers[
            app.test_client().post("/webhook", data=body, headers=signed(body)).status_code
        ] += 1
    assert set(answers) == {200}
    assert rows(COUNT) == [(1,)]
    results = Counter(line["result"] for line in logged())
    assert results["created"] == 1
    assert set(results) <= {"created", "duplicate", "unavailable"}


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
    assert rows(COUNT) == [(0,)]


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


@pytest.mark.parametrize(
    "content_type",
    [
        None, "application/json", "application/x-www-form-urlencoded", "text/plain",
        "multipart/form-data; boundary=x", "application/json; charset=latin-1", "nonsense",
    ],
)  # fmt: skip
def test_the_content_type_does_not_matter(
    client: FlaskClient, get: Get, content_type: str | None
) -> None:
    body = json.dumps(a_message(text="a=1&b=é+"), ensure_ascii=False).encode()

    response = client.post("/webhook", data=body, headers=signed(body), content_type=content_type)

    assert response.status_code == 200
    assert get("/messages")["data"] == [a_message(text="a=1&b=é+")]


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


def test_a_body_of_the_limit_is_accepted_and_a_byte_more_is_413(
    post_signed: Post, client: FlaskClient, rows: Rows
) -> None:
    largest = post_signed(padded(LIMIT, a_message(message_id="sized")))
    largest_chunked, _ = post_chunked(client, padded(LIMIT, a_message(message_id="chunked")))
    too_large = post_signed(padded(LIMIT + 1))
    too_large_chunked, _ = post_chunked(client, padded(LIMIT + 1))

    assert (largest.status_code, largest_chunked.status_code) == (200, 200)
    assert (too_large.status_code, too_large_chunked.status_code) == (413, 413)
    assert too_large.json == too_large_chunked.json
    assert "262144 bytes" in too_large.text
    assert rows("SELECT message_id FROM messages ORDER BY 1") == [("chunked",), ("sized",)]


def test_a_body_announced_as_too_large_is_refused_unread(client: FlaskClient) -> None:
    stream = io.BytesIO(b"x" * 100)

    response = client.post(
        "/webhook", input_stream=stream, environ_overrides={"CONTENT_LENGTH": "2000000000"}
    )

    assert (response.status_code, stream.tell()) == (413, 0)


def test_an_endless_body_is_read_until_a_byte_above_the_limit(client: FlaskClient) -> None:
    response, read = post_chunked(client, b" " * 10 * LIMIT)

    assert (response.status_code, read) == (413, LIMIT + 1)


def test_the_size_is_checked_before_the_signature(client: FlaskClient) -> None:
    response = client.post("/webhook", data=padded(LIMIT + 1), headers={"X-Signature": "wrong"})

    assert response.status_code == 413


def test_a_body_that_ends_early_is_408_and_stores_nothing(
    client: FlaskClient, rows: Rows, logged: Logged
) -> None:
    body = encode(a_message())

    response = client.post(
        "/webhook",
        input_stream=io.BytesIO(body),
        headers=signed(body),
        environ_overrides={"CONTENT_LENGTH": str(len(body) + 1)},
    )

    assert response.status_code == 408
    assert list(response.json or {}) == ["detail"]
    assert rows(COUNT) == [(0,)]
    assert [line["result"] for line in logged()] == ["incomplete"]


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
    "byte order mark": b"\xef\xbb\xbf" + VALID,
    "lone surrogate": VALID.replace(b"Hello", rb"\ud800"),
    "lone low surrogate": VALID.replace(b"Hello", rb"\udc00"),
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


@pytest.mark.parametrize("body", NOT_A_MESSAGE.values(), ids=list(NOT_A_MESSAGE))
def test_a_signed_body_that_is_not_a_message_is_422(
    post_signed: Post, rows: Rows, body: bytes
) -> None:
    response = post_signed(body)

    assert_unprocessable(response)
    assert rows(COUNT) == [(0,)]


def assert_unprocessable(response: TestResponse, *loc: str) -> None:
    assert response.status_code == 422
    assert response.json is not None
    assert list(response.json) == ["detail"]
    assert response.json["detail"]
    for error in response.json["detail"]:
        assert list(error) == ["type", "loc", "msg"]
        assert error["loc"][: 1 + len(loc)] == ["body", *loc]
        assert error["type"]
        assert error["msg"]


NUMBERS = [
    "",
    "+",
    "919",
    " +919",
    "+919 ",
    "+919\n",
    "+91-9",
    "+91 9",
    "++91",
    "+٩١",
    "+９１",
    "+91a",
]
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
    "message_id": ["", None, *OTHER_TYPES],
    "from": [None, *OTHER_TYPES, *NUMBERS],
    "to": [None, *OTHER_TYPES, *NUMBERS],
    "ts": [None, 1736935200, *OTHER_TYPES, *MOMENTS],
    "text": [*OTHER_TYPES, "x" * 4097, "😀" * 4097],
}


@pytest.mark.parametrize("name", BAD_VALUES)
def test_a_field_that_breaks_its_rule_is_422_and_named(
    post_signed: Post, rows: Rows, name: str
) -> None:
    for value in BAD_VALUES[name]:
        response = post_signed(a_message(**{name: value}))

        assert response.status_code == 422, value
        assert_unprocessable(response, name)
    assert rows(COUNT) == [(0,)]


@pytest.mark.parametrize("name", ["message_id", "from", "to", "ts"])
def test_a_missing_field_is_422_and_named(post_signed: Post, name: str) -> None:
    payload = a_message()
    del payload[name]

    assert_unprocessable(post_signed(payload), name)


def test_every_wrong_field_is_named_at_once(post_signed: Post) -> None:
    response = post_signed({"message_id": 1, "from": "91", "to": "+1"})

    assert response.json is not None
    assert [error["loc"] for error in response.json["detail"]] == [
        ["body", "message_id"], ["body", "from"], ["body", "ts"],
    ]  # fmt: skip


def test_a_refusal_does_not_echo_what_was_sent(post_signed: Post) -> None:
    response = post_signed(a_message(sender="very-private", text="x" * 5000))

    assert response.status_code == 422
    assert "very-private" not in response.text
    assert "xxxx" not in response.text


GOOD_FIELDS: list[tuple[str, Any]] = [
    ("message_id", " "), ("message_id", "x" * 10_000), ("message_id", "a\x00b"),
    ("message_id", "é😀\u202e\ufeff"), ("message_id", "\uffff"), ("message_id", "\x01"),
    ("from", "+0"), ("to", "+" + "9" * 40),
    ("ts", "0001-01-01T00:00:00Z"), ("ts", "9999-12-31T23:59:59.999999999Z"),
    ("ts", "2024-02-29T00:00:00.1Z"), ("ts", "1969-12-31T23:59:59.5Z"),
    ("ts", "2025-01-15T10:00:00.000000000Z"),
    ("text", None), ("text", ""), ("text", "x" * 4096), ("text", "😀" * 4096),
    ("text", "a\x00b\x00"), ("text", "\x00"), ("text", "\x01\x7f\r\n\t\u2028"),
    ("text", "\ufffd\ufffe\uffff"),
]  # fmt: skip


@pytest.mark.parametrize("ascii_only", [True, False], ids=["escaped", "raw"])
@pytest.mark.parametrize(
    ("name", "value"), GOOD_FIELDS, ids=[f"{name}={value!a:.40}" for name, value in GOOD_FIELDS]
)
def test_what_is_accepted_comes_back_as_it_was_sent(
    post_signed: Post, get: Get, name: str, value: object, ascii_only: bool
) -> None:
    message = a_message(**{name: value})

    response = post_signed(json.dumps(message, ensure_ascii=ascii_only).encode())

    assert response.status_code == 200
    assert get("/messages")["data"] == [message]


def test_text_may_be_left_out_and_is_then_null(post_signed: Post, get: Get) -> None:
    payload = a_message()
    del payload["text"]

    post_signed(payload)

    assert get("/messages")["data"] == [a_message(text=None)]


@pytest.mark.parametrize(
    "extra", ['"a\\u0000b"', "1e400", "-0", "[[[{}]]]", "[" * 150 + "]" * 150, "9" * 300, '""']
)
def test_unknown_fields_are_ignored(post_signed: Post, get: Get, extra: str) -> None:
    body = VALID[:-1] + f', "extra": {extra}, "": 1}}'.encode()

    response = post_signed(body)

    assert response.status_code == 200
    assert get("/messages")["data"] == [a_message()]


def test_the_last_of_repeated_keys_counts(post_signed: Post, get: Get) -> None:
    post_signed(b'{"message_id": "first", ' + VALID[1:])

    assert [message["message_id"] for message in get("/messages")["data"]] == ["m1"]


def test_ids_that_differ_in_case_or_after_a_nul_are_different(
    post_signed: Post, rows: Rows
) -> None:
    for message_id in ["a", "A", "a\x00b", "a\x00c", "a ", "1", "01", "é", "e\u0301"]:
        assert post_signed(a_message(message_id=message_id)).status_code == 200

    assert rows(COUNT) == [(9,)]


@pytest.mark.parametrize("path", ["/webhook", "/webhook?x=1"])
def test_the_secret_is_the_key(client: FlaskClient, path: str) -> None:
    wrong = client.post(path, data=VALID, headers={"X-Signature": sign("another", VALID)})
    right = client.post(path, data=VALID, headers=signed(VALID))

    assert (wrong.status_code, right.status_code) == (401, 200)
