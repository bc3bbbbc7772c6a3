"""What the server makes of Gunicorn's settings, and the head of its answers."""

import socket
import time
from contextlib import closing
from email.utils import parsedate_to_datetime
from typing import Any

import pytest
from gunicorn.config import Config as GunicornConfig
from gunicorn.http.errors import InvalidResponseHeader  # type: ignore[attr-defined]

from webhook_api.server.answering import Exchange
from webhook_api.server.gunicorn_settings import GunicornSettings
from webhook_api.server.states import ClientConnection

CLIENT = "192.0.2.7"
LENGTH = ("Content-Length", "2")


def answer(
    *headers: str,
    request_line: str = "GET / HTTP/1.1",
    reply: tuple[str, str] = LENGTH,
    **settings: Any,
) -> tuple[dict[str, Any], bytes]:
    """Return the environ that the application saw, and the bytes that the client got."""
    cfg = GunicornConfig()
    for name, value in settings.items():
        cfg.set(name, value)
    request = "\r\n".join([request_line, "Host: x", *headers, "", ""]).encode()
    seen: dict[str, Any] = {}

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        seen.update(environ)
        start_response("200 OK", [reply])
        return [b"ok"]

    near, far = socket.socketpair()
    with closing(near), closing(far):
        connection = ClientConnection(near, (CLIENT, 50_000), ("127.0.0.1", 8000))
        Exchange(GunicornSettings(cfg), request, connection).answer(app, {}, send_s=1.0, last=False)
        connection.outbox.push()
        near.shutdown(socket.SHUT_WR)
        with far.makefile("rb") as received:
            return seen, received.read()


def test_settings_are_those_of_the_config() -> None:
    cfg = GunicornConfig()
    cfg.set("keepalive", 7)
    cfg.set("forwarded_allow_ips", "192.0.2.0/24")

    settings = GunicornSettings(cfg)

    for name in cfg.settings:
        assert getattr(settings, name) == getattr(cfg, name), name
    assert settings.is_ssl == cfg.is_ssl
    assert settings.forwarded_allow_networks() == cfg.forwarded_allow_networks()


@pytest.mark.parametrize(
    ("allowed", "scheme"),
    [("127.0.0.1", "http"), (CLIENT, "https"), ("192.0.2.0/24", "https"), ("*", "https")],
)
def test_only_a_trusted_proxy_can_set_the_scheme(allowed: str, scheme: str) -> None:
    environ, _ = answer("X-Forwarded-Proto: https", forwarded_allow_ips=allowed)

    assert environ["wsgi.url_scheme"] == scheme


def test_an_answer_begins_with_its_status_and_its_date() -> None:
    _, received = answer()

    status, server, date, *others = received.decode().split("\r\n")
    assert (status, server) == ("HTTP/1.1 200 OK", "Server: webhook")
    assert others == ["Connection: keep-alive", "Content-Length: 2", "", "ok"]
    assert abs(parsedate_to_datetime(date.removeprefix("Date: ")).timestamp() - time.time()) < 60
    assert date.endswith(" GMT")


@pytest.mark.parametrize("value", ["a\r\nX-Other: b", "a\nb", "a\0b"])
def test_a_header_with_a_line_break_is_refused_each_time(value: str) -> None:
    for _ in range(2):
        with pytest.raises(InvalidResponseHeader):
            answer(reply=("X-Some", value))


def test_the_application_cannot_set_headers_of_the_connection() -> None:
    _, received = answer(reply=("Keep-Alive", "timeout=9"))

    assert b"Keep-Alive" not in received


@pytest.mark.parametrize("body", [b"", b"some\nlines\n"])
def test_a_body_with_a_length_is_read_like_a_file(body: bytes) -> None:
    seen = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        file = environ["wsgi.input"]
        seen.extend([file.readline(), file.read(3), file.read(), file.read(1)])
        start_response("200 OK", [LENGTH])
        return [b"ok"]

    kept = exchange(b"POST / HTTP/1.1\r\nHost: x\r\n", body, app)

    assert seen == [body[:5], body[5:8], body[8:], b""]
    assert kept


def exchange(head: bytes, body: bytes, app: Any) -> bool:
    """Let `app` answer; return whether the connection is kept."""
    request = head + b"Content-Length: %d\r\n\r\n" % len(body) + body
    near, far = socket.socketpair()
    with closing(near), closing(far):
        connection = ClientConnection(near, (CLIENT, 50_000), ("127.0.0.1", 8000))
        one = Exchange(GunicornSettings(GunicornConfig()), request, connection)
        return one.answer(app, {}, send_s=1.0, last=False)


def test_an_answer_without_a_length_is_chunked() -> None:
    _, received = answer(reply=("X-Other", "1"))

    head, _, body = received.partition(b"\r\n\r\n")
    assert b"\r\nTransfer-Encoding: chunked\r\n" in head
    assert body == b"2\r\nok\r\n0\r\n\r\n"


@pytest.mark.parametrize(
    ("request_line", "header", "kept"),
    [
        ("GET / HTTP/1.1", "Connection: close", b"close"),
        ("GET / HTTP/1.0", "X-Other: 1", b"close"),
        ("GET / HTTP/1.0", "Connection: keep-alive", b"keep-alive"),
    ],
)
def test_an_answer_says_if_the_connection_is_kept(
    request_line: str, header: str, kept: bytes
) -> None:
    _, received = answer(header, request_line=request_line)

    assert b"\r\nConnection: " + kept + b"\r\n" in received
