"""A small model of the contract: any input is accepted exactly when the model says so."""

import calendar
import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from flask.testing import FlaskClient
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.builders import SECRET, a_message, an_app, encode, signed
from webhook_api import close_app
from webhook_api.config import Config
from webhook_api.store.connections import Connection, connect

VALID = encode(a_message())


# The model: the contract's rules, written without a look at the service's code.


def is_number(value: object) -> bool:
    return (
        isinstance(value, str)
        and len(value) > 1
        and value[0] == "+"
        and all(character in "0123456789" for character in value[1:])
    )


def is_moment(value: object) -> bool:
    shape = r"(....)-(..)-(..)T(..):(..):(..)(\.[0-9]{1,9})?Z"
    match = re.fullmatch(shape, value, re.DOTALL) if isinstance(value, str) else None
    if match is None or not all(part.isascii() and part.isdigit() for part in match.groups()[:6]):
        return False
    year, month, day, hour, minute, second = (int(part) for part in match.groups()[:6])
    return (
        year >= 1
        and 1 <= month <= 12
        and 1 <= day <= calendar.monthrange(year, month)[1]
        and (hour < 24 and minute < 60 and second < 60)
    )


def is_message(value: object) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("message_id"), str)
        and value["message_id"] != ""
        and not re.search("[\ud800-\udfff]", value["message_id"])
        and is_number(value.get("from"))
        and is_number(value.get("to"))
        and is_moment(value.get("ts"))
        and (
            value.get("text") is None
            or (isinstance(value["text"], str) and len(value["text"]) <= 4096)
        )
    )


def read(body: bytes) -> Any:
    """Return the value of a JSON body; None if it is not JSON in UTF-8."""

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    try:
        value = json.loads(body.decode().removeprefix("\ufeff"), parse_constant=refuse)
    except (ValueError, RecursionError):
        return None
    return value


class Service(NamedTuple):
    client: FlaskClient
    writer: Connection

    def deliver(self, body: bytes) -> None:
        """Deliver `body`, signed, and compare answer and content with the model."""
        payload = read(body)

        response = self.client.post("/webhook", data=body, headers=signed(body))
        stored = self.client.get("/messages")
        self.writer.execute("DELETE FROM messages")

        assert stored.json is not None
        assert response.json is not None
        if is_message(payload):
            assert (response.status_code, response.json) == (200, {"status": "ok"})
            names = ["message_id", "from", "to", "ts", "text"]
            if payload.get("text"):
                payload["text"] = re.sub("[\ud800-\udfff]", "\ufffd", payload["text"])
            assert stored.json["data"] == [{name: payload.get(name) for name in names}]
        else:
            assert response.status_code == 422
            assert all(error["loc"][0] == "body" for error in response.json["detail"])
            assert stored.json["total"] == 0


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    path = tmp_path_factory.mktemp("input") / "app.db"
    app = an_app(
        Config(webhook_secret=SECRET, database_path=path, log_level="ERROR", read_deadline_s=60)
    )
    writer = connect(path, "rw", timeout_s=5)
    writer.execute("PRAGMA synchronous = OFF")
    yield Service(app.test_client(), writer)
    writer.close()
    close_app(app)


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20)
)
ANYTHING = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=4
)
NUMBERS = st.from_regex(r"\+?[0-9]{0,15}", fullmatch=True) | st.from_regex(
    r"\+\d{1,3}\s?", fullmatch=True
)
MOMENTS = st.builds(
    "{:04}-{:02}-{:02}{}{:02}:{:02}:{:02}{}{}".format,
    st.integers(0, 9999),
    st.integers(0, 13),
    st.integers(0, 32),
    st.sampled_from("TTTTTTTt "),
    st.integers(0, 24),
    st.integers(0, 60),
    st.integers(0, 60),
    st.from_regex(r"(\.[0-9]{0,10})?", fullmatch=True),
    st.sampled_from(["Z"] * 7 + ["z", "+00:00", "", "Z\n"]),
)
LONG_TEXT = st.integers(4090, 4100).flatmap(
    lambda n: st.sampled_from("xé😀\x00").map(lambda c: c * n)
)
# Each field is mostly right, or else hardly any payload would be accepted.
FIELDS = {
    "message_id": st.text(min_size=1, max_size=30) | st.text(max_size=30) | ANYTHING,
    "from": st.sampled_from(["+1", "+919876543210"]) | NUMBERS | ANYTHING,
    "to": st.sampled_from(["+1", "+14155550100"]) | NUMBERS | ANYTHING,
    "ts": st.just("2024-02-29T23:59:59.000000001Z") | MOMENTS | ANYTHING,
}
TEXTS = {"text": st.none() | st.text() | LONG_TEXT | ANYTHING, "extra": ANYTHING}
RIGHT_FIELDS = {name: st.just(a_message()[name]) for name in FIELDS}
PAYLOADS = (
    st.sampled_from(list(FIELDS)).flatmap(
        lambda name: st.fixed_dictionaries(RIGHT_FIELDS | {name: FIELDS[name]}, optional=TEXTS)
    )
    | st.dictionaries(st.sampled_from([*FIELDS, "text"]), ANYTHING)
    | ANYTHING
)


PARTS = st.binary(max_size=3) | st.sampled_from(
    [
        b"\\ud83d", b"\\ude00", b"\\u0000", b"\\", b'"', b"\xed\xa0\x80", b"\xff", b"NaN",
        b"1e999", b"[", b"{}", b" ", b"\n", b"\xef\xbb\xbf",
    ]
)  # fmt: skip


def dumped(payload: object, ascii_only: bool, indent: int | str | None) -> bytes:
    return json.dumps(payload, ensure_ascii=ascii_only, indent=indent).encode()


def damaged(at: int, cut: int, put_in: bytes) -> bytes:
    return VALID[:at] + put_in + VALID[at + cut :]


BODIES = (
    st.builds(dumped, PAYLOADS, st.booleans(), st.sampled_from([None, 1, "\t"]))
    | st.builds(lambda ts: encode(a_message(ts=ts)), MOMENTS)
    | st.builds(damaged, st.integers(0, len(VALID)), st.integers(0, 3), PARTS)
    | st.binary(max_size=300)
)
TEXT = VALID.index(b"Hello")


@given(BODIES)
@example(damaged(0, 0, b"\xef\xbb\xbf"))
@example(damaged(TEXT, 5, b"\\ud83d\\ude00"))
@example(damaged(TEXT, 5, b"\\ude00\\ud83d"))
@settings(max_examples=350)
def test_any_body_is_accepted_exactly_when_the_model_says_so(service: Service, body: bytes) -> None:
    service.deliver(body)


RIGHT = signed(VALID)["X-Signature"]


@given(
    st.text(st.characters(max_codepoint=255, exclude_characters="\r\n"), max_size=80)
    | st.builds(
        lambda prefix, n, character: prefix + RIGHT[:n] + character + RIGHT[n + 1 :],
        st.sampled_from(["", "sha256=", "sha256=sha256=", "sha1=", "="]),
        st.integers(0, 64),
        st.sampled_from([*"0123456789abcdefABCDEF", "", "é", " "]),
    )
)
@example(RIGHT)
@example(RIGHT.upper())
@example(f"sha256={RIGHT}")
@settings(max_examples=80)
def test_any_signature_is_accepted_exactly_when_it_is_right(
    service: Service, supplied: str
) -> None:
    right = supplied.removeprefix("sha256=").lower() == RIGHT

    response = service.client.post(
        "/webhook", data=VALID, environ_overrides={"HTTP_X_SIGNATURE": supplied}
    )
    stored = service.writer.execute("DELETE FROM messages RETURNING message_id").fetchall()

    assert response.status_code == (200 if right else 401)
    assert stored == ([("m1",)] if right else [])
