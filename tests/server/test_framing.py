"""Where a request ends: told from its bytes, in this process."""

import time

import pytest

from tests.server.clients import chunks
from webhook_api.server.framing import Arrival, Incoming

LIMIT = 262_144


def judged(data: bytes) -> Arrival:
    return Incoming({}, LIMIT).judge(bytearray(data))


CHUNKED = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("data", "arrival"),
    [
        (b"", Arrival.WAIT),
        (b"GET / HTTP/1.1\r\n", Arrival.WAIT),
        (b"GET / HTTP/1.1\r\n\r\n", Arrival.WHOLE),
        (b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nab", Arrival.WAIT),
        (b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", Arrival.WHOLE),
        (b"POST / HTTP/1.1\r\ncontent-length:\t003 \r\n\r\nab", Arrival.WAIT),
        (b"POST / HTTP/1.1\r\nX-Content-Length: 3\r\n\r\n", Arrival.WHOLE),
        (b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % (LIMIT + 1), Arrival.ENOUGH),
        (b"POST / HTTP/1.1\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n", Arrival.ENOUGH),
        (b"x" * 70_000, Arrival.ENOUGH),
        (CHUNKED, Arrival.WAIT),
        (CHUNKED + b"3\r\nabc", Arrival.WAIT),
        (CHUNKED + b"3\r\nabc\r\n0\r\n", Arrival.WAIT),
        (CHUNKED + b"3\r\nabc\r\n0\r\n\r\n", Arrival.WHOLE),
        (CHUNKED + b"3;name=value\r\nabc\r\n0\r\nTrailer: x\r\n\r\n", Arrival.WHOLE),
        (CHUNKED + b"%x\r\n" % (LIMIT + 9) + b"x" * (LIMIT + 9), Arrival.ENOUGH),
        (CHUNKED + b"fffffffff\r\n", Arrival.WAIT),
        (CHUNKED + b"1\r\nx\r\n" * 14_000, Arrival.ENOUGH),
        (CHUNKED + b"-6\r\n", Arrival.ENOUGH),
        (CHUNKED + b"0x3\r\n", Arrival.ENOUGH),
        (CHUNKED + b"3\n", Arrival.ENOUGH),
        (CHUNKED + b"\xff\r\n", Arrival.ENOUGH),
    ],
)
def test_framing_tells_when_a_request_is_whole(data: bytes, arrival: Arrival) -> None:
    assert judged(data) is arrival


LIMITS = {"/webhook": 100, "/webhook/meta": 300}


@pytest.mark.parametrize(
    ("target", "limit"),
    [
        ("/webhook", 100),
        ("/webhook/meta", 300),
        ("/webhook?x=/webhook/meta", 100),
        ("/webhook#x", 100),
        ("http://localhost:8000/webhook/meta?x", 300),
        ("HTTPS://x/webhook", 100),
        ("/%77ebhook", 100),
        ("/webhook/", 20),
        ("/webhook/other", 20),
        ("/", 20),
        ("*", 20),
        ("webhook", 20),
        ("http://x", 20),
        ("", 20),
        ("/\xff%ff", 20),
    ],
)
@pytest.mark.parametrize("before", ["", "\r\n"])
def test_how_long_a_body_may_be_depends_on_the_path(target: str, limit: int, before: str) -> None:
    for length, arrival in [(limit, Arrival.WAIT), (limit + 1, Arrival.ENOUGH)]:
        head = f"{before}POST {target} HTTP/1.1\r\nContent-Length: {length}\r\n\r\n"
        incoming = Incoming(LIMITS, 20)

        assert incoming.judge(bytearray(head.encode("latin-1"))) is arrival


def test_a_request_in_any_number_of_pieces_ends_at_the_same_byte() -> None:
    body = bytes(range(256)) * 4
    data = CHUNKED + chunks(body, 10)
    buffer = bytearray()
    incoming = Incoming({}, LIMIT)

    arrivals = []
    for at in range(len(data)):
        buffer += data[at : at + 1]
        arrivals.append(incoming.judge(buffer))

    assert arrivals == [Arrival.WAIT] * (len(data) - 1) + [Arrival.WHOLE]


def test_hostile_heads_take_little_time() -> None:
    heads = [
        b"Content-Length: " + b"0" * 60_000 + b"x",
        b"HTTP/1.1\r\nExpect: 100-continue " * 1500,
        b"Transfer-Encoding: " * 3000,
        b"Expect: " + b" " * 60_000 + b"x",
    ]
    started = time.monotonic()

    for head in heads:
        judged(b"POST / HTTP/1.1\r\n" + head + b"\r\n\r\n")

    assert time.monotonic() - started < 0.5
