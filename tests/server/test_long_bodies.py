"""Bodies that are too long: refused at once, and the sender gets to read it."""

import time

import pytest

from tests.server.clients import CLOSE, a_delivery, chunks, connect, exchange, read_reply, status
from tests.serving import Server


def test_only_the_path_of_a_provider_takes_bodies_as_long_as_its_own(server: Server) -> None:
    refused = {path: exchange(server, an_announced(path)) for path in PATHS}
    started = time.monotonic()
    meta = exchange(server, an_announced("/webhook/meta"))
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


@pytest.mark.parametrize(
    "path", ["/webhook/", "//webhook", "///webhook", "/%77ebhook", "http://x/webhook"]
)
def test_a_path_that_leads_to_the_route_has_its_limit(server: Server, path: str) -> None:
    head, body = a_delivery(CLOSE, message_id=f"long-{path}", text="x" * 4000, more="x" * 20_000)

    reply = exchange(server, head.replace(b"/webhook", path.encode(), 1) + body)

    assert status(reply) == 200
