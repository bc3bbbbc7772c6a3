"""Logs: one JSON object for each request: short, complete, and nothing private."""

import json
import logging
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.builders import SECRET, a_message, encode, signed
from tests.conftest import Api
from webhook_api.logs import JsonFormatter

KEYS = ["ts", "level", "request_id", "method", "path", "status", "latency_ms"]


def test_each_request_gives_one_line_with_the_specified_keys(api: Api) -> None:
    api.client.get("/messages")

    (line,) = api.logged()
    assert list(line) == KEYS
    assert isinstance(line["latency_ms"], float)
    assert 0 < line["latency_ms"] < 60_000
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["ts"])
    assert abs(datetime.fromisoformat(line["ts"]) - datetime.now(UTC)) < timedelta(minutes=1)


def test_half_an_emoji_in_a_line_stays_readable_for_every_parser(api: Api) -> None:
    body = b'{"message_id": "cut \\ud83d"}'

    assert api.client.post("/webhook", data=body, headers=signed(body)).status_code == 422

    assert api.logged()[0]["message_id"] == "cut \N{REPLACEMENT CHARACTER}"


REQUESTS: list[tuple[str, str, int, str]] = [
    ("GET", "/messages", 200, "INFO"), ("HEAD", "/stats", 200, "INFO"),
    ("OPTIONS", "/webhook", 200, "INFO"), ("GET", "/metrics", 200, "INFO"),
    ("GET", "/health", 200, "INFO"), ("GET", "/health/live", 200, "INFO"),
    ("GET", "/messages?limit=0", 422, "WARNING"), ("GET", "/nope", 404, "WARNING"),
    ("GET", "/webhook", 405, "WARNING"), ("FOO", "/%ff%00%0a", 404, "WARNING"),
    ("POST", "/webhook", 401, "ERROR"), ("GET", "/fails", 500, "ERROR"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("set_to", "written"),
    [("DEBUG", {"INFO", "WARNING", "ERROR"}), ("INFO", {"INFO", "WARNING", "ERROR"}),
     ("WARNING", {"WARNING", "ERROR"}), ("ERROR", {"ERROR"})],
)  # fmt: skip
def test_401_and_5xx_are_errors_other_4xx_warnings_the_rest_info(
    api: Api, set_to: str, written: set[str]
) -> None:
    @api.app.get("/fails")
    def fail() -> str:
        raise RuntimeError

    logging.getLogger().setLevel(set_to)
    answers = [api.client.open(url, method=method) for method, url, *_ in REQUESTS]

    assert [answer.status_code for answer in answers] == [status for *_, status, _ in REQUESTS]
    ids = [answer.headers["X-Request-ID"] for answer in answers]
    assert len(set(ids)) == len(ids)
    names = ("method", "status", "level", "request_id")
    assert [tuple(line[name] for name in names) for line in api.logged()] == [
        (method, status, level, request_id)
        for (method, _, status, level), request_id in zip(REQUESTS, ids, strict=True)
        if level in written
    ]


def test_a_delivery_is_logged_with_its_id_and_what_became_of_it(api: Api) -> None:
    for text in ("Hello", "Hello", "other"):
        api.post(a_message(text=text))

    first, second, third = api.logged()
    assert list(first) == [*KEYS, "message_id", "dup", "result"]
    assert (first["message_id"], first["dup"], first["result"]) == ("m1", False, "created")
    assert (second["message_id"], second["dup"], second["result"]) == ("m1", True, "duplicate")
    assert (third["dup"], third["result"], third["conflict"]) == (True, "duplicate", True)
    assert {line["level"] for line in api.logged()} == {"INFO"}


@pytest.mark.parametrize("path", ["/webhook", "/webhook/"])
def test_every_line_of_the_webhook_has_a_result(api: Api, path: str) -> None:
    methods = ["GET", "HEAD", "OPTIONS", "PUT", "DELETE", "FOO"]
    for method in methods:
        api.client.open(path, method=method)
    api.client.post("/webhook", headers={"Host": "x" * 64})

    *lines, no_host = api.logged()
    assert len(lines) == len(methods)
    for line in lines:
        assert list(line) == [*KEYS, "dup", "result"]
        assert (line["path"], line["dup"]) == ("/webhook", False)
        assert line["result"] == "method_not_allowed"
    assert (no_host["status"], no_host["dup"], no_host["result"]) == (400, False, "malformed")


def test_each_wrong_signature_has_its_line_with_the_client_and_what_it_was_forwarded_for(
    api: Api,
) -> None:
    """Spec 1: "Log an error event"."""
    for forwarded_for in ("192.0.2.7, 2001:db8::1", *["a\x1b[31m"] * 999):
        api.client.post("/webhook", data=b"x", headers={"X-Forwarded-For": forwarded_for})

    line, *others = api.logged()
    assert list(line) == [*KEYS, "dup", "result", "client", "forwarded_for"]
    assert (line["client"], line["forwarded_for"]) == ("127.0.0.1", "192.0.2.7, 2001:db8::1")
    assert len(others) == 999
    assert {(one["level"], one["status"]) for one in [line, *others]} == {("ERROR", 401)}
    assert not any("forwarded_for" in one for one in others)


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"sender": "very-private"}, r"body.from: String should match pattern '^\+[0-9]+$'"),
        ({"text": "very-private" * 500}, "body.text: String should have at most 4096 characters"),
        ({"ts": "very-private", "to": 7},
         "body.to: Input should be a valid string; body.ts: Input should be a UTC timestamp such as"
         " 2025-01-15T10:00:00Z"),
    ],
)  # fmt: skip
def test_the_line_of_a_422_names_field_and_reason_and_no_value(
    api: Api, fields: dict[str, Any], error: str
) -> None:
    api.post(a_message(**fields))
    api.client.get("/messages?limit=very-private")

    line, of_query = api.logged()
    assert (line["level"], line["error"]) == ("WARNING", error)
    assert of_query["error"] == "query.limit: Input should be a whole number"
    assert "very-private" not in str(api.logged())


LARGE = encode(a_message()).ljust(262_145)


@pytest.mark.parametrize(
    ("body", "signature", "message_id", "result", "level"),
    [
        (encode(a_message()), "0" * 64, None, "invalid_signature", "ERROR"),
        (LARGE, None, None, "too_large", "WARNING"),
        (encode(a_message(sender="bad")), None, "m1", "validation_error", "WARNING"),
        (encode(a_message(message_id="")), None, "", "validation_error", "WARNING"),
        (encode(a_message(message_id=5)), None, None, "validation_error", "WARNING"),
        (encode([a_message()]), None, None, "validation_error", "WARNING"),
        (encode("m1"), None, None, "validation_error", "WARNING"),
        (encode({}), None, None, "validation_error", "WARNING"),
    ],
    ids=["unsigned", "large", "number", "empty", "no text", "list", "text", "nothing"],
)
def test_the_id_of_a_refused_delivery_is_logged_only_if_it_was_signed_and_has_one(
    api: Api, body: bytes, signature: str | None, message_id: str | None, result: str, level: str
) -> None:
    headers = {"X-Signature": signature} if signature else signed(body)
    api.client.post("/webhook", data=body, headers=headers)

    (line,) = api.logged()
    more = {"invalid_signature": ["client"], "validation_error": ["error"]}
    keys = [*KEYS, *([] if message_id is None else ["message_id"]), "dup", "result"]
    assert list(line) == [*keys, *more.get(result, [])]
    assert (line.get("message_id"), line["dup"]) == (message_id, False)
    assert (line["result"], line["level"]) == (result, level)


def test_no_query_string_secret_signature_or_text_is_logged(api: Api) -> None:
    message = a_message(text="very private")

    api.post(message)
    api.post(message | {"from": "+0 private"})
    for path in ("/messages?from=%2B919876543210&q=private", "/messages?limit=private",
                 "/nope?private"):  # fmt: skip
        api.client.get(path)

    log = api.written.getvalue()
    assert log.count("\n") == 5
    for private in ["private", "919876543210", "?", SECRET, signed(encode(message))["X-Signature"]]:
        assert private not in log


PLAIN = ["abc-123", "A.b_c:d/e+f=", "0", "x" * 128, "c2f6e3a0-9d3e-4a53-8d5e-7f1a5b1c2d3e"]
OTHERS = ["", "x" * 129, "a b", 'a"b', "<script>", "é", "a,b", "{}", "a\tb"]


@pytest.mark.parametrize("client_id", [*PLAIN, *OTHERS])
def test_a_clients_own_id_is_logged_beside_ours_only_if_it_is_plain(
    api: Api, client_id: str
) -> None:
    response = api.client.get("/stats", headers={"X-Request-ID": client_id})

    (line,) = api.logged()
    assert line.get("client_request_id") == (client_id if client_id in PLAIN else None)
    assert line["request_id"] == response.headers["X-Request-ID"] != client_id


@pytest.mark.parametrize("character", ["a", "é", "\x00", "😀", '"', "\\"], ids=ascii)
def test_a_line_stays_under_4_kib_and_valid(api: Api, character: str) -> None:
    for length in [100, 300, 700, 1400, 3700, 3900, 4100, 20_000]:
        api.post(a_message(message_id=character * length))
        api.post(a_message(message_id=character * length, text=5))
        api.client.get("/" + character * length)

    lines = api.written.getvalue().splitlines(keepends=True)
    assert len(lines) == 24
    assert max(len(line.encode()) for line in lines) <= 4096
    for line in map(json.loads, lines):
        assert set(KEYS) <= set(line)
        assert line.get("message_id", character)[0] == character
    # What fits is whole.
    assert json.loads(lines[0])["message_id"] == character * 100


def test_a_long_traceback_is_one_field_and_keeps_its_end(api: Api) -> None:
    def fall(depth: int) -> str:
        if depth:
            return fall(depth - 1) + "x" * depth
        raise RuntimeError("é\n" * 300 + "the reason")

    api.app.add_url_rule("/fails", view_func=lambda: fall(100))

    response = api.client.get("/fails")

    assert "reason" not in response.text
    (line,) = api.written.getvalue().splitlines(keepends=True)
    assert len(line.encode()) <= 4096
    assert json.loads(line)["traceback"].endswith("the reason\n")
    assert set(KEYS) <= set(json.loads(line))


def test_other_messages_are_json_too_and_what_json_cannot_hold_is_text() -> None:
    def record(message: str, *args: object, **extra: Any) -> dict[str, Any]:
        made = logging.getLogger("other").makeRecord(
            "other", logging.WARNING, "file", 1, message, args, None, extra=extra
        )
        line: dict[str, Any] = json.loads(JsonFormatter().format(made))
        return line

    line = record("two\nlines of %s", "it")

    assert list(line) == ["ts", "level", "message", "logger"]
    assert [*line.values()][1:] == ["WARNING", "two\nlines of it", "other"]
    assert record("x", fields={"path": {1, 2}})["path"] == "{1, 2}"
