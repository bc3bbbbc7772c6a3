"""`forward` hands each message on in order; `recover twilio` brings in what is missing."""

import base64
import json
import os
import random
import signal
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.cli.running import command
from tests.conftest import Api
from tests.forks import Command
from tests.providers.samples import AUTH_TOKEN, a_config, from_twilio
from tests.serving import Load, serving, wait_until
from tests.store.files import store
from webhook_api.cli import recover as recovery
from webhook_api.config import Config, ConfigError, NamedKey
from webhook_api.providers.standard import verify
from webhook_api.store.connections import connect
from webhook_api.store.database import Database
from webhook_api.store.lock import unshared
from webhook_api.store.messages import remove_messages

SECRET = "whsec_a2V5a2V5a2V5"
KEY = b"keykeykey"
NOTHING = 204, dict[str, str](), b""


Reply = tuple[int, dict[str, str], bytes]


class StandIn:
    """A server that gives its replies in their order, then 204, and keeps what it was sent."""

    def __init__(self, *replies: Reply) -> None:
        self.replies = list(replies)
        self.got: list[tuple[str, dict[str, str], bytes]] = []
        standing = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                headers = {name.lower(): value for name, value in self.headers.items()}
                body = self.rfile.read(int(headers.get("content-length", 0)))
                standing.got.append((self.path, headers, body))
                status, sent, content = standing.replies.pop(0) if standing.replies else NOTHING
                self.send_response(status)
                for name, value in sent.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST

            def log_message(self, *_: Any) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self.server.serve_forever, args=[0.01], daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()


class Target(StandIn):
    """One that takes what is POSTed, with these statuses first."""

    def __init__(self, *statuses: int) -> None:
        super().__init__(*((status, {}, b"") for status in statuses))
        self.url += "/hook?a=1"

    @property
    def ids(self) -> list[str]:
        for _, headers, body in self.got:
            verify([NamedKey(KEY)], headers, body, "")
        return [headers["webhook-id"] for _, headers, _ in self.got]

    @property
    def bodies(self) -> list[Any]:
        return [json.loads(body) for _, _, body in self.got]


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
        wait_until(lambda: target.ids == ["a", "a", "a", "b"])
        wait_until(lambda: behind(path) == 0)
        store(path, "c", text="Hello ☃")
        database.note_arrival()  # as the service does
        wait_until(lambda: target.ids[4:] == ["c"] and behind(path) == 0)
        running.send_signal(signal.SIGTERM)
        _, shown = running.communicate(60)

        assert running.wait(60) == 0
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
        assert ended.wait(60) == 0
        assert "the URL answered 410" in ended.communicate()[1]
        assert [one["message_id"] for one in target.bodies[0]] == ["a", "b"]
        assert behind(path) == 3

        again = command(path, *to, FORWARD_SECRET=SECRET)
        wait_until(lambda: has_consumer(path) and behind(path) == 0)
        again.kill()
        again.wait(60)
        assert [one["message_id"] for one in target.bodies[1:]] == ["a", "b", "c"]


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

    wait_until(lambda: len(names()) >= 2)
    assert set(names()) == {"a"}
    assert behind(path) == 2
    allowed.touch()
    wait_until(lambda: behind(path) == 0)
    assert names()[-2:] == ["a", "b"]
    running.send_signal(signal.SIGTERM)
    assert running.wait(60) == 0


def test_it_goes_on_after_what_was_removed_by_age(database: Database) -> None:
    path = database.path
    store(path, "a", "b", "c")
    with Target(*[500] * 100) as target:
        running = command(path, "forward", "x", "--to", target.url, FORWARD_SECRET=SECRET)
        wait_until(lambda: bool(target.ids) and has_consumer(path))
        with closing(unshared(connect(path, "rw", timeout_s=5))) as db:
            remove_messages(db, [1, 2])
            assert db.execute("SELECT missed FROM consumers").fetchone() == (2,)
        target.replies.clear()
        wait_until(lambda: target.ids[-1] == "c")
        running.kill()
        running.wait(60)


@pytest.mark.parametrize(
    ("args", "named"),
    [
        (["x"], "one of --to and --exec is needed"),
        (["x", "--to", "http://a", "--exec", "true"], "one of --to and --exec is needed"),
        (["x", "--to", "ftp://a"], "--to is 'ftp://a'"),
        (["x", "--to", ""], "--to is ''"),  # FORWARD_TO of Compose is not set
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


ACCOUNT = "AC00000000000000000000000000000001"
SINCE = "2023-08-24T05:00:00Z"


def listed(number: int, **fields: object) -> dict[str, object]:
    """A message as Twilio lists it."""
    return {
        "sid": f"SM{number:032}", "from": "+14155551234", "to": "+14155238886",
        "body": f"n{number}",
        "direction": "inbound", "status": "received", "num_media": "0",
        "date_sent": f"Thu, 24 Aug 2023 05:{number:02}:45 +0000",
        "date_created": "Thu, 24 Aug 2023 05:00:00 +0000",
        "subresource_uris": {"media": f"/2010-04-01/Accounts/{ACCOUNT}/Messages/SM1/Media.json"},
        **fields,
    }  # fmt: skip


def a_page(*messages: object, following: object = None) -> Reply:
    return 200, {}, json.dumps({"messages": messages, "next_page_uri": following}).encode()


@pytest.fixture
def twilio() -> Iterator[StandIn]:
    with StandIn() as standing:
        yield standing


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return a_config(tmp_path, TWILIO_ACCOUNT_SID=ACCOUNT)


@pytest.fixture
def recover(api: Api, twilio: StandIn) -> Callable[..., tuple[int, str]]:
    def recover(*options: str, since: str = SINCE) -> tuple[int, str]:
        result = api.run("recover", "twilio", "--since", since, "--api", twilio.url, *options)
        return result.exit_code, result.stdout + result.stderr

    return recover


Recover = Callable[..., tuple[int, str]]


def test_what_is_missing_is_stored_once_under_the_ids_of_the_webhook(
    recover: Recover, twilio: StandIn, api: Api
) -> None:
    came = listed(7)
    api.deliver("twilio", from_twilio(MessageSid=f"SM{7:032}", From="+14155551234", Body="n7"))
    pages = [
        a_page(
            listed(9, **{"from": "whatsapp:+14155551234", "to": "whatsapp:+1"}),
            listed(8, direction="outbound-api", status="delivered"),
            came,
            following="/2010-04-01/Accounts/AC1/Messages.json?PageSize=250&Page=1&PageToken=PASM",
        ),
        a_page(listed(5, body="", date_sent=None), listed(4, direction="outbound-reply")),
    ]

    twilio.replies = [*pages]
    assert recover() == (0, "created 2, duplicate 1, without a valid id 0\n")
    twilio.replies = [*pages]
    assert recover() == (0, "created 0, duplicate 3, without a valid id 0\n")

    stored = api.get("/messages", provider="twilio", until="2024-01-01")["data"]
    assert stored == [
        {
            "message_id": f"twilio:SM{5:032}", "from": "+14155551234", "to": "+14155238886",
            "ts": "2023-08-24T05:00:00Z", "text": None,
        },
        {
            "message_id": f"twilio:SM{9:032}", "from": "+14155551234", "to": "+1",
            "ts": "2023-08-24T05:09:45Z", "text": "n9",
        },
    ]  # fmt: skip
    assert api.rows("SELECT count(*) FROM messages") == [(3,)]
    ((kept,),) = api.rows(f"SELECT payload FROM messages WHERE message_id = 'twilio:SM{5:032}'")
    assert json.loads(kept)["subresource_uris"]["media"].endswith("/Media.json")
    (path, headers, _), (next_path, *_), *_ = twilio.got
    key = headers["authorization"]
    assert urlsplit(path).path == f"/2010-04-01/Accounts/{ACCOUNT}/Messages.json"
    assert parse_qs(urlsplit(path).query) == {"DateSent>": ["2023-08-24"], "PageSize": ["250"]}
    assert next_path.endswith("PageToken=PASM")
    assert base64.b64decode(key.removeprefix("Basic ")).decode() == f"{ACCOUNT}:{AUTH_TOKEN}"


@pytest.mark.parametrize(
    ("options", "since", "created"),
    [
        ([], "2023-08-24T05:02:45Z", 3),
        ([], "2023-08-24T05:02:46Z", 2),
        ([], "2023-08-24", 5),
        (["--until", "2023-08-24T05:02:45Z"], "2023-08-24", 2),
    ],
)
def test_only_messages_of_the_time_asked_for_are_stored(
    recover: Recover, twilio: StandIn, options: list[str], since: str, created: int
) -> None:
    twilio.replies = [a_page(*map(listed, reversed(range(5))))]

    code, output = recover(*options, since=since)

    assert (code, output.split(",")[0]) == (0, f"created {created}")


def test_a_removed_message_stays_removed(recover: Recover, twilio: StandIn, api: Api) -> None:
    twilio.replies = [a_page(listed(1))] * 2
    recover()
    api.run("forget", "+14155551234")

    assert recover() == (0, "created 0, duplicate 1, without a valid id 0\n")
    assert api.rows("SELECT count(*) FROM messages") == [(0,)]


def test_what_has_no_id_is_counted_and_the_rest_stored(recover: Recover, twilio: StandIn) -> None:
    twilio.replies = [a_page(listed(1, sid=None), "x", listed(2))]

    assert recover() == (1, "created 1, duplicate 0, without a valid id 2\n")


OTHER_HOST = "http://127.0.0.2:1/2010-04-01/Accounts/AC1/Messages.json"
NEXT = "/2010-04-01/next"


@pytest.mark.parametrize("url", ["http://example.com", "ftp://localhost", "api.twilio.com", ""])
def test_a_key_is_sent_over_https_only(api: Api, url: str) -> None:
    result = api.run("recover", "twilio", "--since", SINCE, "--api", url)

    assert result.exit_code == 1
    assert "accepted are https:// URLs" in result.stderr


@pytest.mark.parametrize("since", ["", "yesterday"])
def test_a_bad_time_is_refused(recover: Recover, twilio: StandIn, since: str) -> None:
    code, output = recover(since=since)

    assert code == 1
    assert "since" in output
    assert twilio.got == []


def test_an_api_key_has_priority_over_the_token(
    recover: Recover, twilio: StandIn, api: Api, tmp_path: Path
) -> None:
    both = a_config(tmp_path, TWILIO_ACCOUNT_SID=ACCOUNT, TWILIO_API_KEY="SK1:secret")
    api.app.config["SETTINGS"] = both
    twilio.replies = [a_page()]

    assert recover()[0] == 0
    ((_, headers, _),) = twilio.got
    key = headers["authorization"]
    assert base64.b64decode(key.removeprefix("Basic ")) == b"SK1:secret"


def test_a_missing_account_is_named(
    recover: Recover, twilio: StandIn, api: Api, tmp_path: Path
) -> None:
    api.app.config["SETTINGS"] = a_config(tmp_path)

    assert recover() == (1, "Error: TWILIO_ACCOUNT_SID is not set\n")
    assert twilio.got == []


def test_an_api_key_needs_its_secret(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^TWILIO_API_KEY .* accepted are SID:SECRET"):
        a_config(tmp_path, TWILIO_API_KEY="SK1")


def test_none_is_missed_or_comes_twice_while_processes_are_killed(tmp_path: Path) -> None:
    """Only what `forward` itself had not acknowledged when it was killed comes again."""
    with Target() as target, serving(tmp_path, WEB_CONCURRENCY=4) as server:

        def forward() -> Command:
            to = ["forward", "x", "--to", target.url]
            return command(server.database, *to, FORWARD_SECRET=SECRET)

        running, kills_of_it = forward(), 3
        with Load(server, "k") as load:
            for number in range(2 * kills_of_it):
                before = len(target.ids)
                wait_until(lambda before=before: len(target.ids) > before + 15)  # type: ignore[misc]
                if number % 2:
                    running.kill()
                    running.wait(60)
                    running = forward()
                else:
                    os.kill(random.choice(server.workers), signal.SIGKILL)
        wait_until(lambda: behind(server.database) == 0)
        running.send_signal(signal.SIGTERM)
        assert running.wait(60) == 0
        stored = [row[0] for row in server.query("SELECT message_id FROM messages ORDER BY id")]

    assert load.acknowledged <= set(stored)
    once = [name for name, following in pairwise([*target.ids, None]) if name != following]
    assert once == stored
    assert len(target.ids) - len(once) <= kills_of_it


def test_what_fails_for_now_is_asked_again(
    recover: Recover, twilio: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    monkeypatch.setattr(recovery, "sleep", slept.append)
    twilio.replies = [
        (429, {"Retry-After": "7"}, b'{"code":20429}'),
        (429, {"Retry-After": "99999"}, b""),
        a_page(listed(3), listed(2), following=NEXT),
        (503, {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}, b"no"),
        (200, {"Content-Length": "100"}, b'{"messages":['),
        # The first message came again: a new one has moved the list while it was read.
        a_page(listed(2), listed(1)),
    ]

    code, output = recover()

    assert (code, slept) == (0, [7, 120, 1, 2])
    assert "created 3, duplicate 1, without a valid id 0\n" in output
    assert output.count('answered 429: {"code":20429}; trying again in 7 s\n') == 1
    asked = [urlsplit(path).path for path, *_ in twilio.got]
    assert (asked.count(NEXT), len(asked)) == (3, 6)


def test_it_gives_up_after_some_attempts(
    recover: Recover, twilio: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recovery, "sleep", lambda _: None)
    twilio.replies = [(500, {}, b"")] * 6

    code, output = recover()

    assert (code, output.count("answered 500"), twilio.replies) == (1, 6, [])


@pytest.mark.parametrize(
    ("replies", "reason"),
    [
        ([(401, {}, b'{"code":20003,\x1b[31m"message":"Authenticate"}')], "answered 401: {\"code"),
        ([(302, {"Location": OTHER_HOST}, b"")], "answered 302"),
        ([(503, {}, b"")], "answered 503"),
        ([(200, {}, b"<html>")], "not JSON"),
        ([(200, {}, b"[]")], "not a list of messages"),
        ([(200, {}, b'{"messages":{}}')], "not a list of messages"),
        ([(200, {"Content-Length": "100"}, b"{")], "not JSON"),
        ([(200, {}, b" " * 5001)], "longer than 5000 bytes"),
        ([a_page(following=OTHER_HOST)], "next page is not one"),
        ([a_page(following="@127.0.0.2/")], "next page is not one"),
        ([a_page(following=NEXT), a_page(following=NEXT)], "next page is not one"),
        ([a_page(following=7)], "next page is not one"),
    ],
)  # fmt: skip
def test_a_bad_answer_ends_it_with_one_line(
    recover: Recover,
    twilio: StandIn,
    monkeypatch: pytest.MonkeyPatch,
    replies: list[Reply],
    reason: str,
) -> None:
    monkeypatch.setattr(recovery, "_MAX_PAGE_BYTES", 5000)
    monkeypatch.setattr(recovery, "_PAUSES_S", ())
    twilio.replies = replies

    code, output = recover()
    first, second = output.splitlines()

    assert (code, first) == (1, "created 0, duplicate 0, without a valid id 0")
    assert second.startswith("Error: ")
    assert reason in second
    assert second.isprintable()
    assert AUTH_TOKEN not in output


def test_a_server_that_is_not_there_is_named(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovery, "_PAUSES_S", ())
    result = api.run("recover", "twilio", "--since", SINCE, "--api", "http://127.0.0.1:1")

    assert result.exit_code == 1
    assert "127.0.0.1:1: " in result.stderr
