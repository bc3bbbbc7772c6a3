"""Text of others reaches a terminal without what would control it: escapes, C1, bidi."""

import json
import re
import sqlite3
import threading
from contextlib import closing, suppress
from pathlib import Path
from socket import SHUT_RDWR, create_server

from tests.builders import a_message
from tests.conftest import Api

EVIL = "\x1b[2J\x9b2J\x07\x7f\u202e\u2066"
CONTROLS = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def test_what_restore_says_of_a_file(api: Api, backup: Path) -> None:
    api.post(a_message(message_id=EVIL))
    api.run("backup", backup)
    with closing(sqlite3.connect(backup)) as db:
        db.executescript(
            "DROP TRIGGER messages_are_final; UPDATE messages SET nanos = 5;"
            "CREATE TRIGGER messages_are_final BEFORE UPDATE ON messages BEGIN\n"
            "    SELECT raise(ABORT, 'messages are filed once and never changed');\nEND"
        )

    result = api.run("restore", backup)

    assert result.exit_code == 1
    assert "\ufffd[2J" in result.stdout
    assert not CONTROLS.search(result.stdout + result.stderr)


def test_what_forget_and_a_failure_say_of_a_file(api: Api, backup: Path) -> None:
    backup.rename(backup.with_name(f"b{EVIL}.db"))

    for result in (
        api.run("forget", "+1"),
        api.run("restore", f"/{EVIL}"),
        api.run("restore", "--x" + EVIL),
    ):
        assert "[2J" in result.stdout + result.stderr
        assert not CONTROLS.search(result.stdout + result.stderr)


def test_what_export_writes_is_the_same_json(api: Api) -> None:
    api.post(a_message(text=f"é 日本 {EVIL}"))

    result = api.run("export")

    assert "é 日本" in result.stdout
    assert not CONTROLS.search(result.stdout)
    assert json.loads(result.stdout)["text"] == f"é 日本 {EVIL}"


def test_what_send_says_of_an_answer(api: Api) -> None:
    with create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            with suppress(OSError):  # closed by the test
                while True:
                    connection, _ = server.accept()
                    with connection:
                        connection.recv(65536)
                        connection.sendall(f"{EVIL}\r\n\r\n".encode())

        answering = threading.Thread(target=answer)
        answering.start()
        port = server.getsockname()[1]
        result = api.run(
            "send", "--count", 1, "--concurrency", 1, "--url", f"http://127.0.0.1:{port}/"
        )
        server.shutdown(SHUT_RDWR)
        answering.join()

    assert result.exit_code == 1
    assert "Error: " in result.stderr
    assert not CONTROLS.search(result.stdout + result.stderr)
