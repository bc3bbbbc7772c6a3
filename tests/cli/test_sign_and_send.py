"""`flask --app wsgi sign` and `send`: signatures, and deliveries to a service."""

import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from flask import Flask

from tests.builders import SECRET, a_message
from tests.cli.running import ODD_TEXTS, as_lines, environment, forked, some_messages
from tests.conftest import Api
from webhook_api.config import Config
from webhook_api.intake.signature import sign


@pytest.mark.parametrize("body", [b"", b'{"a": 1}', b'{"a": 1}\r\n', bytes(range(256))])
def test_sign_prints_the_header_for_exactly_these_bytes(
    api: Api, tmp_path: Path, body: bytes
) -> None:
    file = tmp_path / "body"
    file.write_bytes(body)

    assert (
        api.run("sign", file).stdout
        == api.run("sign", stdin=body).stdout
        == sign(SECRET, body) + "\n"
    )


def test_send_delivers_as_many_messages_as_asked_for(api: Api, server: str) -> None:
    result = api.run("send", "--url", server, "--count", 60, "--concurrency", 3)

    assert result.exit_code == 0
    assert result.stdout.splitlines()[0] == "200 OK: 60"
    assert result.stderr.startswith("Delivering samples, which the receiver keeps")
    assert api.rows("SELECT count(*) FROM messages WHERE text IS NOT ''") == [(60,)]


def test_send_delivers_an_export_and_import_finds_nothing_new_in_it(
    api: Api, elsewhere: Flask, server: str, tmp_path: Path
) -> None:
    file = tmp_path / "export.ndjson"
    messages = [a_message(message_id=f"m{n}", text=text) for n, text in enumerate(ODD_TEXTS)]
    there = elsewhere.test_cli_runner()
    there.invoke(args=["import", "-"], input=as_lines(*messages) + some_messages(120)[:-1])
    exported = there.invoke(args=["export", str(file)])

    sent = there.invoke(args=["send", "--file", str(file), "--url", server, "--concurrency", "3"])
    imported = api.run("import", file)

    assert (exported.exit_code, sent.exit_code, sent.stderr) == (0, 0, "")
    assert sent.stdout.splitlines()[0] == "200 OK: 120"
    assert api.rows("SELECT count(*) FROM messages") == [(120,)]
    assert imported.stdout == "created 0, duplicate 120 (with other content 0), bad 0\n"


def test_send_names_bad_lines_and_delivers_the_others(api: Api, server: str) -> None:
    lines = b"{not json}\n" + as_lines(a_message(message_id="good"), {}) + b"\n"

    result = api.run("send", "--file", "-", "--url", server, stdin=lines)

    assert result.exit_code == 1
    assert [line.partition(": ")[0] for line in result.stderr.splitlines()] == ["line 1", "line 3"]
    counts = result.stdout.splitlines()
    assert (counts[0], counts[-1]) == ("200 OK: 1", "bad lines, left out: 2")
    assert api.rows("SELECT message_id FROM messages") == [("good",)]


def test_send_says_what_else_was_answered(server: str, api: Api, elsewhere: Flask) -> None:
    api.app.config["SETTINGS"] = Config(webhook_secret="another")

    result = elsewhere.test_cli_runner().invoke(args=["send", "--url", server, "--count", "5"])

    assert result.exit_code == 1
    assert result.stdout.splitlines()[0] == "401 Unauthorized: 5"
    assert api.rows("SELECT count(*) FROM messages") == [(0,)]


def test_send_names_the_url_that_it_could_not_reach(api: Api) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}/webhook"

    result = api.run("send", "--url", url, "--count", 5)

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.splitlines()[1:] == [f"Error: {url}: Connection refused"]


def test_send_goes_on_when_the_server_closes_kept_connections(api: Api) -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"

    def answer_once_and_close(listener: socket.socket) -> None:
        for _ in range(3):
            connection, _ = listener.accept()
            with connection:
                while not connection.recv(65536).endswith(b"}"):
                    pass
                connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor() as pool:
        answered = pool.submit(answer_once_and_close, listener)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/webhook"
        result = api.run("send", "--url", url, "--count", 3, "--concurrency", 1)
        answered.result(10)

    assert (result.exit_code, result.stdout.splitlines()[0]) == (0, "200 OK: 3")


@pytest.mark.parametrize("url", ["http://exa mple/", "http://127.0.0.1:1/\xe9"])
def test_send_ends_with_one_line_whatever_is_wrong_with_the_url(api: Api, url: str) -> None:
    result = api.run("send", "--url", url, "--count", 1)

    assert result.exit_code == 1
    _, failure = result.output.splitlines()
    assert failure.startswith(f"Error: {url}: ")


def test_send_delivers_to_the_port_of_the_service(api: Api, server: str) -> None:
    port = str(urlsplit(server).port)

    code, stdout, _ = forked(
        "send", "--count", 3, PORT=port, **environment(api.config.database_path)
    )

    assert (code, stdout.splitlines()[0]) == (0, "200 OK: 3")
    assert api.rows("SELECT count(*) FROM messages") == [(3,)]
