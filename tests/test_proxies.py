"""Behind a reverse proxy: what docs/go-live.md says, with the proxies that are installed."""

import http.client
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.builders import a_message, encode, signed
from tests.serving import ROOT, Server, free_port, serving, wait_until

HANDBOOK = (ROOT / "webhook_api" / "docs" / "go-live.md").read_text()


@contextmanager
def caddy(folder: Path, server: Server) -> Iterator[int]:
    """Run Caddy with the handbook's file, without TLS, and yield its port."""
    (file,) = re.findall(r"```caddy\n(.*?)```", HANDBOOK, re.DOTALL)
    port = free_port()
    options = "{\n\tadmin off\n\tauto_https off\n}\n"
    file = options + file.replace("hooks.example.com", f"http://127.0.0.1:{port}")
    (folder / "Caddyfile").write_text(file.replace("127.0.0.1:8000", f"127.0.0.1:{server.port}"))
    command = ["caddy", "run", "--config", "Caddyfile", "--adapter", "caddyfile"]
    with (folder / "log").open("wb") as log:
        environment = {"PATH": os.environ["PATH"], "HOME": str(folder)}
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
    try:
        wait_until(lambda: b"serving initial" in (folder / "log").read_bytes(), 20)
        yield port
    finally:
        process.terminate()
        process.wait(10)


@pytest.mark.skipif(not shutil.which("caddy"), reason="needs caddy")
def test_caddy_lets_deliveries_through_and_nothing_else(tmp_path: Path) -> None:
    body = encode(a_message())
    requests = [
        ("POST", "/webhook", body, signed(body), 200),
        ("POST", "/webhook/", body, signed(body), 200),
        ("POST", "/webhook", body, {"X-Signature": "wrong"}, 401),
        ("POST", "/webhook", b"x" * 262_145, {}, 413),
        ("GET", "/messages", None, {}, 404),
        ("GET", "/metrics", None, {}, 404),
        ("GET", "/webhook/../messages", None, {}, 404),
    ]
    with serving(tmp_path, WEB_CONCURRENCY=1) as server, caddy(tmp_path, server) as port:
        statuses = []
        for method, path, content, headers, _ in requests:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            connection.request(method, path, content, headers)
            statuses.append(connection.getresponse().status)
            connection.close()
        ids = server.ids()

    assert statuses == [expected for *_, expected in requests]
    assert ids == {"m1"}


def test_an_idle_connection_stays_open_for_keepalive_s(tmp_path: Path) -> None:
    with (
        serving(tmp_path, WEB_CONCURRENCY=1, KEEPALIVE_S=2) as server,
        socket.create_connection(("127.0.0.1", server.port), 10) as connection,
    ):
        connection.sendall(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
        connection.recv(10_000)
        began = time.monotonic()
        end = connection.recv(1)
        stayed_s = time.monotonic() - began

    assert end == b""
    assert 1.5 < stayed_s < 20
