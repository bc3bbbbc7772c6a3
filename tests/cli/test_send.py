"""`sign` and `send`: signatures and deliveries. What others sent controls no terminal."""

import json
import re
import socket
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from flask import Flask

from tests.builders import SECRET, a_message
from tests.cli.running import ODD_TEXTS, as_lines, environment, forked, some_messages
from tests.conftest import Api
from tests.providers.samples import a_config
from webhook_api.config import Config
from webhook_api.intake.signature import sign


@pytest.mark.parametrize("body", [b"", b'{"a": 1}', b'{"a": 1}\r\n', bytes(range(256))])
def test_sign_prints_the_header_for_exactly_these_bytes(
    api: Api, tmp_path: Path, body: bytes
) -> None:
    file = tmp_path / "body"
    file.write_bytes(body)

    from_file, from_stdin = api.run("sign", file).stdout, api.run("sign", stdin=body).stdout

    assert from_file == from_stdin == sign(SECRET, body) + "\n"


def test_send_delivers_as_many_messages_as_asked_for(api: Api, server: str) -> None:
    result = api.run("send", "--url", server, "--count", 60, "--concurrency", 3)

    assert result.exit_code == 0
    assert result.stdout.splitlines()[0] == "200 OK: 60"
    assert result.stderr.startswith("Delivering samples, which the receiver keeps")
    found = "SELECT count(*) FROM messages WHERE text IS NOT '' AND message_id LIKE 'sample-%'"
    assert api.rows(found) == [(60,)]


def test_send_delivers_to_the_port_of_the_service(api: Api, server: str) -> None:
    port = str(urlsplit(server).port)

    code, stdout, _ = forked("send", "--count", 3, PORT=port, **environment(api.path))

    assert (code, stdout.splitlines()[0]) == (0, "200 OK: 3")
    assert api.rows("SELECT count(*) FROM messages") == [(3,)]


class TestProviders:
    """Signed deliveries in the format of each provider."""

    @pytest.fixture
    def config(self, tmp_path: Path) -> Config:
        return a_config(tmp_path)

    @pytest.mark.parametrize("provider", ["meta", "twilio", "standard"])
    def test_each_sample_is_accepted_and_stored(self, api: Api, server: str, provider: str) -> None:
        url = f"{server}/{provider}"

        code, stdout, _ = api.ran("send", "--as", provider, "--url", url, "--count", 30)

        assert (code, stdout.splitlines()[0]) == (0, "200 OK: 30")
        assert api.rows("SELECT count(*) FROM dead_letters") == [(0,)]
        found = api.rows("SELECT message_id, text, coalesce(kind, '') FROM messages")
        ids, texts, kinds = (set(column) for column in zip(*found, strict=True))
        assert len(ids) == 30
        assert all(message_id.startswith(f"{provider}:") for message_id in ids)
        assert len(texts) > 3
        assert len(kinds) > (3 if provider == "meta" else 1)


def test_send_delivers_an_export_and_import_finds_nothing_new_in_it(
    api: Api, elsewhere: Flask, server: str, tmp_path: Path
) -> None:
    file = tmp_path / "export.ndjson"
    messages = [a_message(message_id=f"m{n}", text=text) for n, text in enumerate(ODD_TEXTS)]
    there = elsewhere.test_cli_runner()
    there.invoke(args=["import", "-"], input=as_lines(*messages) + some_messages(120)[:-1])
    exported = there.invoke(args=["export", str(file)])

    sent = there.invoke(args=["send", "--file", str(file), "--url", server, "--concurrency", "3"])

    assert (exported.exit_code, sent.exit_code, sent.stderr) == (0, 0, "")
    assert sent.stdout.splitlines()[0] == "200 OK: 120"
    assert api.rows("SELECT count(*) FROM messages") == [(120,)]
    assert api.run("import", file).stdout == (
        "created 0, duplicate 120 (with other content 0), bad 0\n"
    )


def test_send_names_bad_lines_and_delivers_the_others(api: Api, server: str) -> None:
    lines = b"{not json}\n" + as_lines(a_message(message_id="good"), {}) + b"\n"

    code, stdout, stderr = api.ran("send", "--file", "-", "--url", server, stdin=lines)

    assert code == 1
    assert [line.partition(": ")[0] for line in stderr.splitlines()] == ["line 1", "line 3"]
    counts = stdout.splitlines()
    assert (counts[0], counts[-1]) == ("200 OK: 1", "bad lines, left out: 2")
    assert api.rows("SELECT message_id FROM messages") == [("good",)]


def test_send_says_what_else_was_answered(api: Api, server: str, elsewhere: Flask) -> None:
    api.app.config["SETTINGS"] = Config(webhook_secret="another")

    result = elsewhere.test_cli_runner().invoke(args=["send", "--url", server, "--count", "5"])

    assert result.exit_code == 1
    assert result.stdout.splitlines()[0] == "401 Unauthorized: 5"
    assert api.rows("SELECT count(*) FROM messages") == [(0,)]


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1/webhook", "http://exa mple/", "http://127.0.0.1:1/\xe9"]
)
def test_send_ends_with_one_line_whatever_is_wrong_with_the_url(api: Api, url: str) -> None:
    code, stdout, stderr = api.ran("send", "--url", url, "--count", 5)

    assert (code, stdout) == (1, "")
    _, failure = stderr.splitlines()
    assert failure.startswith(f"Error: {url}: ")
    assert "Connection refused" in failure or "webhook" not in url


def answering(answer: bytes, work: Callable[[str], None]) -> None:
    """Call `work` with the URL of a server that gives each client one answer, and closes."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with suppress(OSError):  # closed by the test
                while True:
                    connection, _ = listener.accept()
                    with connection:
                        while not connection.recv(65536).endswith(b"}"):
                            pass
                        connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        work(f"http://127.0.0.1:{listener.getsockname()[1]}/")
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


EVIL = "\x1b[2J\x9b2J\x07\x7f\u202e\u2066"
CONTROLS = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


@pytest.mark.parametrize(
    ("answer", "code", "says"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 0, "200 OK: 3\n"),
        (f"{EVIL}\r\n\r\n".encode(), 1, "Error: "),
    ],
    ids=["closes kept connections", "is no HTTP"],
)
def test_send_goes_on_with_a_server_that(api: Api, answer: bytes, code: int, says: str) -> None:
    def send(url: str) -> None:
        result = api.run("send", "--url", url, "--count", 3, "--concurrency", 1)

        assert result.exit_code == code
        assert says in result.stdout + result.stderr
        assert not CONTROLS.search(result.stdout + result.stderr)

    answering(answer, send)


def test_what_commands_say_of_a_file_does_not_control_the_terminal(api: Api, backup: Path) -> None:
    api.post(a_message(message_id=EVIL))
    api.run("backup", backup)
    with closing(sqlite3.connect(backup)) as db:
        db.executescript(
            "DROP TRIGGER messages_are_final; UPDATE messages SET nanos = 5;"
            "CREATE TRIGGER messages_are_final BEFORE UPDATE ON messages BEGIN\n"
            "    SELECT raise(ABORT, 'messages are filed once and never changed');\nEND"
        )
    other = backup.with_name(f"b{EVIL}.db")
    other.write_bytes(backup.read_bytes())

    for command in (["restore", backup], ["forget", "+1"], ["restore", f"/{EVIL}"],
                    ["restore", "--x" + EVIL]):  # fmt: skip
        _, stdout, stderr = api.ran(*command)
        assert "[2J" in stdout + stderr
        assert not CONTROLS.search(stdout + stderr)


def test_what_export_writes_is_the_same_json(api: Api) -> None:
    api.post(a_message(text=f"é 日本 {EVIL}"))

    exported = api.run("export").stdout

    assert "é 日本" in exported
    assert not CONTROLS.search(exported)
    assert json.loads(exported)["text"] == f"é 日本 {EVIL}"
