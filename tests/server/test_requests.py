"""Requests with an odd form or a long body: which are answered, and how the connection goes on."""

import json
import re
import time
from contextlib import ExitStack

import pytest

from tests.server.clients import (
    CLOSE,
    GET,
    a_delivery,
    chunks,
    connect,
    exchange,
    not_served,
    read_all,
    read_reply,
    status,
)
from tests.serving import Server

CLOSE_HEAD = f"{CLOSE}\r\n\r\n".encode()


CHUNKED_END = b"0\r\n\r\n"
# The lines after the first one of a POST with HTTP/1.1, its body, and the answer.
AMBIGUOUS = [
    (b"X: y", b"", 400), (b"Host: x\r\nHost: y", b"", 400),
    (b"Host: x\r\nTransfer-Encoding: identity", b"", 400),
    (b"Host: x\r\nTransfer-Encoding: identity, chunked", CHUNKED_END, 501),
    (b"Host: x\r\nTransfer-Encoding: gzip, chunked", CHUNKED_END, 501),
    (b"Host: x\r\nTransfer-Encoding: chunked, identity", CHUNKED_END, 400),
    (b"Host: x\r\nTransfer-Encoding: chunked, chunked", CHUNKED_END, 400),
    (b"Host: x\r\nTransfer-Encoding: xchunked", CHUNKED_END, 501),
    (b"Host: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked", CHUNKED_END, 400),
    (b"Host: x\r\nContent-Length: 5, 5", b"hello", 400),
    (b"Host: x\r\nContent-Length: 5\r\nContent-Length: 6", b"hello", 400),
    (b"Host: x\r\nContent-Length: +5", b"hello", 400),
    (b"Host: x\r\nContent-Length : 5", b"hello", 400),
    (b"Host: x\r\n Transfer-Encoding: chunked", CHUNKED_END, 400),
]  # fmt: skip
OLDER = b"POST / HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKED_END


@pytest.mark.parametrize(
    ("wire", "refused"),
    [
        (OLDER, 400),
        *((b"POST / HTTP/1.1\r\n%b\r\n\r\n%b" % (head, body), refused)
          for head, body, refused in AMBIGUOUS),
    ],
)  # fmt: skip
def test_a_request_with_an_ambiguous_end_is_refused_and_closed(
    server: Server, wire: bytes, refused: int
) -> None:
    before = not_served(server)
    reply = exchange(server, wire + b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n")

    assert status(reply) == refused
    assert not_served(server) == before | {"malformed": before["malformed"] + 1}
    assert reply.count(b"HTTP/1.1 ") == 1
    assert not any(line.get("path") == "/smuggled" for line in server.log)


LONG, BODY = a_delivery(CLOSE, message_id="long", text="x" * 4000, more="x" * 20_000)
EXPECTING, ITS_BODY = a_delivery("Expect: 100-continue", CLOSE, message_id="impatient")
CHUNKED, _ = a_delivery("Transfer-Encoding: chunked", framed=False)


@pytest.mark.parametrize(
    ("wire", "replied"),
    [
        (b"GET /health/live HTTP/1.0\r\n\r\n", 200),  # which needs no Host
        (b"GET /health/live HTTP/1.0\r\nHost: x\r\nSCRIPT_NAME: /x\r\n\r\n", 200),
        (CHUNKED + b"zz\r\n", 400),
        (EXPECTING + ITS_BODY, 200),  # without a 100 before it
        *((LONG.replace(b"/webhook", path, 1) + BODY, 200) for path in (
            b"/webhook/", b"//webhook", b"///webhook", b"/%77ebhook", b"http://x/webhook",
        )),
    ],
)  # fmt: skip
def test_what_is_sent_at_once_is_answered_with(server: Server, wire: bytes, replied: int) -> None:
    assert status(exchange(server, wire)) == replied


@pytest.mark.parametrize(
    ("head", "refused", "known"),
    [
        (b"GET /messages?from=+919876500000&q=\x7f HTTP/1.1", 400, ("GET", "/messages")),
        (b"POST /webhook?%b HTTP/1.1" % (b"x" * 9000), 414, ("POST", "/webhook")),
        (b"GET /stats HTTP/1.1\r\nX: %b" % (b"x" * 9000), 431, ("GET", "/stats")),
        (b"GET /stats HTTP/1.1\r\n%b" % (b"X: y\r\n" * 200), 431, ("GET", "/stats")),
        (b"GET /stats HTTP/1.1\r\nX: %b" % (b"x" * 90_000), 431, ("GET", "/stats")),
        (b"GET /stats HTTP/3.7", 400, ("GET", "/stats")),
        (b"GET http://[/stats HTTP/1.1", 400, ("UNKNOWN", "/")),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, ("UNKNOWN", "/")),
        (b"hello", 400, ("UNKNOWN", "/")),
    ],
)
def test_what_is_no_http_is_refused_as_json_with_a_log_line(
    server: Server, head: bytes, refused: int, known: tuple[str, str]
) -> None:
    lines = len(server.log)

    reply = exchange(server, head + b"\r\nHost: x\r\n\r\n")

    [line] = [line for line in server.log[lines:] if "status" in line]
    assert status(reply) == refused
    assert json.loads(reply.partition(b"\r\n\r\n")[2])["detail"] == line["error"]
    assert b"\r\nX-Request-ID: %b\r\n" % line["request_id"].encode() in reply
    assert (line["status"], line["method"], line["path"]) == (refused, *known)
    assert "latency_ms" in line
    assert "919876500000" not in json.dumps(server.log)


def test_what_people_type_into_a_shell_is_read_as_utf_8(server: Server) -> None:
    assert server.deliver(message_id="typed", text="Grüße").status == 200

    found = exchange(server, "GET /messages?q=grü HTTP/1.1\r\nHost: x\r\n".encode() + CLOSE_HEAD)
    broken = exchange(server, b"GET /messages?q=gr\xfc HTTP/1.1\r\nHost: x\r\n" + CLOSE_HEAD)

    assert json.loads(found.partition(b"\r\n\r\n")[2])["total"] == 1
    assert status(broken) == 200


@pytest.mark.parametrize(
    "stall",
    [
        b"POST /webhook HTTP/1.1\r\nHost: x\r\nContent-Length: 0000000000000000000005\r\n\r\n",
        b"POST /webhook HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\n",
        b"POST /webhook HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n-6\r\n",
        b"POST /webhook HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1" * 5000,
        b"POST /webhook HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nfffffff\r\nx",
        b"GET / HTTP/1.1\r\nX: " + b"x" * 70_000,
        b"\r\n\r\n",
        b"GET / HTTP/1.1\n\n",
    ],
    ids=["zeros", "bare-lf", "negative", "long-line", "huge-chunk", "long-head", "empty", "lf"],
)
def test_no_odd_framing_makes_a_thread_wait(server: Server, stall: bytes) -> None:
    with ExitStack() as stack:
        for _ in range(12):  # more than there are threads
            stack.enter_context(connect(server)).sendall(stall)
        time.sleep(0.1)

        assert server.get("/health/live").status == 200


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_chunked_body_is_accepted_with_chunks_of_any_size(server: Server, size: int) -> None:
    head, body = a_delivery("Transfer-Encoding: chunked", CLOSE, framed=False)
    wire = chunks(body, size)

    reply = exchange(server, head, *(wire[at : at + 100] for at in range(0, len(wire), 100)))

    assert status(reply) == 200


def test_pipelined_requests_are_answered_in_their_order(server: Server) -> None:
    head, body = a_delivery(message_id="piped")
    with connect(server) as client:
        client.sendall(GET + b"\r\n" + head + body + GET + b"Connection: clo")
        time.sleep(0.05)
        client.sendall(b"se\r\n\r\n")

        replies = read_all(client)

    assert re.findall(rb"HTTP/1.1 (\d+)", replies) == [b"200"] * 3
    assert re.findall(rb'"status": ?"(\w+)"', replies) == [b"alive", b"ok", b"alive"]


NOT_NEEDED = [
    ["X-Forwarded-Proto: https", "X-Forwarded-Protocol: https"],
    ["X-Forwarded-Proto: https", "X-Forwarded-Protocol: http"],
    ["X-Forwarded-Protocol: ssl", "X-Forwarded-Ssl: off", "X-Forwarded-Proto: gopher"],
    ["X-Forwarded-Proto: https", "X-Forwarded-Proto: http", "X-Forwarded-Ssl: on"],
    ["Forwarded: =;;for=_hidden, proto=https", "Via: 1.1 a, nonsense", "X-Forwarded-For: unknown"],
    ["Upgrade: h2c", "Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: !"],
    ["Upgrade: websocket", "Connection: Upgrade"],
    ["Expect: tea"], ["Expect: 100-continue, tea"], ["Expect:"],
    ["Connection: ,,,"], ["Connection: keep-alive, x-y", "Keep-Alive: 300", "TE: chunked"],
    ["Content-Type: text/plain", "Content-Type: nonsense;;"], ["Content-Encoding: gzip"],
    ["Script_Name: /x", "X_Signature: z", "X-Script-Name: /x", "X-Forwarded-Prefix: /x"],
    ["Accept: nothing", "Range: bytes=9-", "If-Match: x", "If-Modified-Since: now", "Origin: null"],
    ["Cookie: =;;=", "Authorization: Basic !", "X-Http-Method-Override: DELETE"],
]  # fmt: skip


@pytest.mark.parametrize("headers", NOT_NEEDED, ids=", ".join)
def test_no_header_that_is_not_needed_refuses_a_delivery(
    server: Server, headers: list[str]
) -> None:
    head, body = a_delivery(*headers, message_id=str(headers))

    with connect(server) as client:
        client.sendall(head + body)
        reply = read_reply(client)

    assert status(reply) == 200


def test_a_client_that_expects_100_is_told_to_go_on_exactly_once(server: Server) -> None:
    head, body = a_delivery("Expect: 100-continue", CLOSE, message_id="expecting")
    with connect(server) as client:
        client.sendall(head)

        told = client.recv(100)
        client.sendall(body)
        reply = read_all(client)

    assert told == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert reply.startswith(b"HTTP/1.1 200 ")
    assert reply.count(b"HTTP/1.1") == 1


def test_a_connection_is_kept_for_the_next_request_and_head_has_no_body(server: Server) -> None:
    with connect(server) as client:
        statuses = []
        for _ in range(3):
            client.sendall(GET + b"\r\n")
            statuses.append(status(read_reply(client)))
        client.sendall(GET.replace(b"GET", b"HEAD") + b"Connection: close\r\n\r\n")

        last = read_all(client)

    assert statuses == [200] * 3
    assert last.endswith(b"\r\n\r\n")


def test_a_request_after_an_unread_body_is_not_mistaken_for_it(server: Server) -> None:
    hidden = b"GET /hidden HTTP/1.1\r\nHost: x\r\n\r\n"
    post = b"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(hidden)
    with connect(server) as client:
        client.sendall(post + hidden + GET + b"Connection: close\r\n\r\n")

        replies = read_all(client)

    assert re.findall(rb"HTTP/1.1 (\d+)", replies) == [b"404", b"200"]
    assert not any(line.get("path") == "/hidden" for line in server.log)


def test_only_the_path_of_a_provider_takes_bodies_as_long_as_its_own(hurried: Server) -> None:
    refused = {path: exchange(hurried, an_announced(path)) for path in PATHS}
    started = time.monotonic()
    meta = exchange(hurried, an_announced("/webhook/meta"))
    took = time.monotonic() - started

    assert {path: status(reply) for path, reply in refused.items()} == PATHS
    assert (status(meta), took > 0.5) == (408, True)  # the rest was waited for


PATHS = {"/webhook": 413, "/webhook?a": 413, "/nowhere": 404, "/messages": 405}


def an_announced(path: str) -> bytes:
    """Return a head that announces a body as long as only Meta's may be, and the start of it."""
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 2000000\r\n\r\n"
    return head.encode() + b"x" * 1000


@pytest.mark.parametrize("headers", [[], ["Expect: 100-continue"]])
def test_a_body_announced_with_2_gb_is_refused_at_once(server: Server, headers: list[str]) -> None:
    head, _ = a_delivery("Content-Length: 2147483648", *headers, framed=False)
    with connect(server) as client:
        client.sendall(head)

        reply = read_reply(client)

    assert status(reply) == 413  # not 408, after a wait for the body


@pytest.mark.parametrize("chunked", [False, True])
def test_a_sender_of_20_mb_gets_to_read_its_413(server: Server, chunked: bool) -> None:
    body = b"x" * 20_000_000
    framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(body)}"
    head, _ = a_delivery(framing, framed=False)
    with connect(server) as client:
        client.sendall(head + (chunks(body, 50_000) if chunked else body))

        reply = read_reply(client)

    assert status(reply) == 413
