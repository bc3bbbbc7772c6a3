"""Behind a reverse proxy: what docs/go-live.md says, with the proxies that are installed."""

import http.client
import os
import re
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.builders import a_message, encode, signed
from tests.serving import ROOT, Server, free_port, running, serving

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
    environment, log = {"PATH": os.environ["PATH"], "HOME": str(folder)}, folder / "log"
    with running(
        command, lambda: b"serving initial" in log.read_bytes(), log, cwd=folder, env=environment
    ):
        yield port


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
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            connection.request(method, path, content, headers)
            statuses.append(connection.getresponse().status)
            connection.close()
        ids = server.ids()

    assert statuses == [expected for *_, expected in requests]
    assert ids == {"m1"}


@contextmanager
def nginx(folder: Path, server: Server) -> Iterator[int]:
    """Run nginx with the handbook's two blocks and a certificate of its own; yield its port."""
    block, inbox = re.findall(r"```nginx\n(.*?)```", HANDBOOK, re.DOTALL)
    port = free_port()
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost",
         "-keyout", "key.pem", "-out", "cert.pem"],
        cwd=folder, check=True, capture_output=True,
    )  # fmt: skip
    block = block.replace("    location / {", f"{inbox}\n    location / {{")
    block = block.replace("listen 443", f"listen 127.0.0.1:{port}")
    block = block.replace("127.0.0.1:8000", f"127.0.0.1:{server.port}")
    block = re.sub(r"(\w+\.pem)", rf"{folder}/\1", block)
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = "".join(f"{kind}_temp_path {folder}/{kind};\n" for kind in kinds)
    (folder / "nginx.conf").write_text(
        f"daemon off; pid {folder}/pid; error_log {folder}/log;\nevents {{}}\n"
        f"http {{ access_log off;\n{temporary}{block} }}"
    )
    command = ["nginx", "-p", str(folder), "-e", f"{folder}/log", "-c", f"{folder}/nginx.conf"]
    with running(command, (folder / "pid").exists):
        yield port


@pytest.mark.skipif(
    not (shutil.which("nginx") and shutil.which("openssl")), reason="needs nginx and openssl"
)
def test_nginx_lets_deliveries_and_the_inbox_through_and_nothing_else(tmp_path: Path) -> None:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    most = encode(a_message(message_id="most", text="x" * 4096))
    most += b" " * (262_144 - len(most))
    with (
        serving(tmp_path, WEB_CONCURRENCY=1) as server,
        nginx(tmp_path, server) as port,
        closing(http.client.HTTPSConnection("127.0.0.1", port, timeout=60, context=context)) as to,
    ):

        def status(
            method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
        ) -> int:
            to.request(method, path, body, headers or {})
            response = to.getresponse()
            response.read()
            return response.status

        def slowly(body: bytes) -> Iterator[bytes]:
            for at in range(0, len(body), 60):
                time.sleep(0.3)
                yield body[at : at + 60]

        for number in range(3):
            body = encode(a_message(message_id=f"m{number}"))
            assert status("POST", "/webhook/" if number else "/webhook", body, signed(body)) == 200
            time.sleep(4.5 * (number == 1))  # nginx has closed its connection, the service has not
        assert status("POST", "/webhook", slowly(body), signed(body)) == 200
        assert status("POST", "/webhook", most, signed(most)) == 200
        assert status("POST", "/webhook", most + b" ", signed(most)) == 413
        assert status("POST", "/webhook", b"{}", {"X-Signature": "wrong"}) == 401
        refused = ["/messages", "/metrics", "/webhook/../messages", "/webhook/meta", "/health"]
        assert [status("GET", path) for path in refused] == [404] * 5
        assert [status("GET", path) for path in ("/inbox", "/inbox?q=x", "/inbox/new?above=0")] == [
            200
        ] * 3
        ids = server.ids()
        [wrong] = [line for line in server.log if line.get("status") == 401]

    assert ids == {"m0", "m1", "m2", "most"}
    assert wrong["forwarded_for"] == "127.0.0.1"
    assert len(wrong["client_request_id"]) == 32


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
