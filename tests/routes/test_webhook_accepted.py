"""POST /webhook: which bodies and fields are accepted, and come back as they were sent."""

import json
from typing import Any

import pytest
from flask.testing import FlaskClient

from tests.builders import a_message, encode, signed
from tests.conftest import Get, Post

VALID = encode(a_message())


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
def test_what_is_accepted_comes_back_as_it_was_sent(
    post_signed: Post, get: Get, ascii_only: bool
) -> None:
    messages = [
        a_message(**{"message_id": f"m{n}", name: value})
        for n, (name, value) in enumerate(GOOD_FIELDS)
    ]

    for message in messages:
        response = post_signed(json.dumps(message, ensure_ascii=ascii_only).encode())
        assert response.status_code == 200, ascii(message)

    in_order = sorted(messages, key=lambda message: message["message_id"])
    found = get("/messages", limit=100)["data"]
    assert sorted(found, key=lambda message: message["message_id"]) == in_order


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


MARK = b"\xef\xbb\xbf"
MENDED = {
    rb"xoxo \ud83d": "xoxo \ufffd",
    rb"\uDE00\uD83D": "\ufffd\ufffd",
    rb"\ud83d\ud83d\ude00.": "\ufffd😀.",
    rb"\\ud83d \ude00": "\\ud83d \ufffd",
}


@pytest.mark.parametrize("text", MENDED)
def test_half_an_emoji_becomes_a_replacement_character(
    post_signed: Post, get: Get, text: bytes
) -> None:
    """Gateways leave it when they cut a text in the middle of a character."""
    assert post_signed(VALID.replace(b"Hello", text)).status_code == 200

    assert get("/messages")["data"] == [a_message(text=MENDED[text])]


@pytest.mark.parametrize(
    "body", [MARK + VALID, VALID[:-1] + rb', "x": {"\ud83d": "\ude00", "y": 1e400}}'],
    ids=["byte order mark", "half an emoji in a field that is ignored"],
)  # fmt: skip
def test_what_a_text_does_not_need_is_ignored(post_signed: Post, get: Get, body: bytes) -> None:
    assert post_signed(body).status_code == 200

    assert get("/messages")["data"] == [a_message()]


def test_the_last_of_repeated_keys_counts(post_signed: Post, get: Get) -> None:
    post_signed(b'{"message_id": "first", ' + VALID[1:])

    assert [message["message_id"] for message in get("/messages")["data"]] == ["m1"]
