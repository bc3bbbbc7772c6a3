"""POST /webhook: which bodies and fields are accepted, and come back as they were sent."""

import json
from typing import Any

import pytest

from tests.builders import a_message, encode, signed
from tests.conftest import Api

VALID = encode(a_message())


@pytest.mark.parametrize(
    "content_type",
    [
        None, "application/json", "application/x-www-form-urlencoded", "text/plain",
        "multipart/form-data; boundary=x", "application/json; charset=latin-1", "nonsense",
    ],
)  # fmt: skip
def test_the_content_type_does_not_matter(api: Api, content_type: str | None) -> None:
    body = json.dumps(a_message(text="a=1&b=é+"), ensure_ascii=False).encode()

    response = api.client.post(
        "/webhook", data=body, headers=signed(body), content_type=content_type
    )

    assert response.status_code == 200
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

    in_order = sorted(messages, key=lambda message: message["message_id"])
    found = api.get("/messages", limit=100)["data"]
    assert sorted(found, key=lambda message: message["message_id"]) == in_order


NO_TEXT = a_message()
del NO_TEXT["text"]
MARK = b"\xef\xbb\xbf"  # a byte order mark
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
    response = api.post(body)

    assert response.status_code == 200
    assert api.get("/messages")["data"] == [a_message(text=text)]
