"""`forward`: each message is handed on in order, until it is taken."""

import json
import signal
import sqlite3
import threading
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.cli.running import command
from tests.conftest import Api
from tests.serving import wait_until
from tests.store.files import store
from webhook_api.config import NamedKey
from webhook_api.providers.standard import verify
from webhook_api.store.connections import connect
from webhook_api.store.database import Database
from webhook_api.store.lock import unshared
from webhook_api.store.messages import remove_messages

SECRET = "whsec_a2V5a2V5a2V5"
KEY = b"keykeykey"


class Target:
    """A server that takes what is POSTed, with the given answers first and then 204."""

    def __init__(self, *answers: int) -> None:
        self.ids: list[str] = []
        self.bodies: list[Any] = []
        target, rest = self, iter(answers)

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                headers = {name.lower(): value for name, value in self.headers.items()}
                body = self.rfile.read(int(headers["content-length"]))
                verify([NamedKey(KEY)], headers, body, "")
                target.ids.append(headers["webhook-id"])
                target.bodies.append(json.loads(body))
                self.send_response(next(rest, 204))
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook?a=1"

    def __enter__(self) -> "Target":
        threading.Thread(target=self.server.serve_forever, args=[0.01], daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()


def behind(path: Path) -> int:
    sql = "SELECT count(*) FROM messages WHERE id > (SELECT id FROM consumers)"
    with closing(sqlite3.connect(path)) as db:
        return int(db.execute(sql).fetchone()[0])


def has_consumer(path: Path) -> bool:
    with closing(sqlite3.connect(path)) as db:
        return bool(db.execute("SELECT 1 FROM consumers").fetchone())


def test_each_message_is_posted_until_it_is_taken(database: Database) -> None:
    path = database.path
    store(path, "a", "b")
    with Target(500, 302, 200) as target:
        running = command(path, "forward", "x", "--to", target.url, FORWARD_SECRET=SECRET)
        wait_until(lambda: target.ids == ["a", "a", "a", "b"], 20)
        wait_until(lambda: behind(path) == 0)
        store(path, "c", text="Hello ☃")
        database.note_arrival()  # as the service does
        wait_until(lambda: target.ids[4:] == ["c"] and behind(path) == 0)
        running.send_signal(signal.SIGTERM)
        _, shown = running.communicate(20)

        assert running.wait(20) == 0
        assert (target.bodies[-1]["text"], target.bodies[-1]["provider"]) == ("Hello ☃", "webhook")
        assert "x: waiting for messages after 2." in shown
        assert "x: a: the URL answered 500; trying again" in shown
        assert shown.endswith("x: stopped\n")


def test_a_410_ends_it_and_acknowledges_nothing(database: Database) -> None:
    path = database.path
    store(path, "a", "b", "c")
    with Target(410) as target:
        to = ["forward", "x", "--to", target.url]
        ended = command(path, *to, "--batch", 2, FORWARD_SECRET=SECRET)
        assert ended.wait(20) == 0
        assert "the URL answered 410" in ended.communicate()[1]
        assert [one["message_id"] for one in target.bodies.pop()] == ["a", "b"]
        assert behind(path) == 3

        again = command(path, *to, FORWARD_SECRET=SECRET)
        wait_until(lambda: has_consumer(path) and behind(path) == 0, 20)
        again.kill()
        again.wait(20)
        assert [one["message_id"] for one in target.bodies] == ["a", "b", "c"]


def test_a_program_acknowledges_by_its_status(database: Database, tmp_path: Path) -> None:
    path, taken, allowed = database.path, tmp_path / "taken", tmp_path / "allowed it"
    store(path, "a", "b")
    program = tmp_path / "program.sh"
    program.write_text('#!/bin/sh\ncat >> "$1"; echo >> "$1"; test -e "$2"\n')
    program.chmod(0o700)
    running = command(path, "forward", "x", "--exec", f"{program} {taken} '{allowed}'")

    def names() -> list[str]:
        lines = taken.read_text().splitlines() if taken.exists() else []
        return [json.loads(line)["message_id"] for line in lines]

    wait_until(lambda: len(names()) >= 2, 20)
    assert set(names()) == {"a"}
    assert behind(path) == 2
    allowed.touch()
    wait_until(lambda: behind(path) == 0)
    assert names()[-2:] == ["a", "b"]
    running.send_signal(signal.SIGTERM)
    assert running.wait(20) == 0


def test_it_goes_on_after_what_was_removed_by_age(database: Database) -> None:
    path = database.path
    store(path, "a", "b", "c")
    with Target(500) as target:
        running = command(path, "forward", "x", "--to", target.url, FORWARD_SECRET=SECRET)
        wait_until(lambda: bool(target.ids) and has_consumer(path), 20)
        with closing(unshared(connect(path, "rw", timeout_s=5))) as db:
            remove_messages(db, [1, 2])
            assert db.execute("SELECT missed FROM consumers").fetchone() in ((1,), (2,))
        wait_until(lambda: target.ids[-1] == "c")
        running.kill()
        running.wait(20)


@pytest.mark.parametrize(
    ("args", "named"),
    [
        (["x"], "one of --to and --exec is needed"),
        (["x", "--to", "http://a", "--exec", "true"], "one of --to and --exec is needed"),
        (["x", "--to", "ftp://a"], "--to is 'ftp://a'"),
        (["x", "--to", "http://a"], "FORWARD_SECRET is not set"),
        (["x", "--exec", ""], "there is no such program"),
        (["x", "--exec", "no-such-program a"], "there is no such program"),
        (["x", "--exec", "'a"], "--exec: No closing quotation"),
    ],
)
def test_what_it_cannot_do_is_one_line(
    api: Api, database: Database, args: list[str], named: str
) -> None:
    result = api.run("forward", *args)

    assert result.exit_code == 1
    assert named in result.stderr
