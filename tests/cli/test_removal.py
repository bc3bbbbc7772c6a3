"""`forget`, `prune`, `dead-letters`: what was asked for goes, and all counts stay exact."""

import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import pytest

from tests.builders import a_message, encode
from tests.cli.running import command
from tests.conftest import Api
from tests.dying import forget_until
from tests.forks import Command, killed
from tests.providers.samples import (
    a_config,
    a_whatsapp,
    from_meta,
    from_standard,
    from_twilio,
    some_whatsapps,
)
from tests.serving import Load, serving, wait_until
from tests.store.files import (
    NUMBER,
    TEXT,
    arrived,
    differences,
    failing,
    fill,
    not_empty,
    removed,
    stored,
    traces,
)
from webhook_api.config import Config
from webhook_api.errors import Unavailable
from webhook_api.maintenance import compaction, replacing
from webhook_api.maintenance.removal import removal_lock
from webhook_api.models import Origin, ProviderMessage
from webhook_api.providers import PARSERS
from webhook_api.providers.texts import as_json
from webhook_api.store.database import Database
from webhook_api.store.dead_letters import DeadLetter, insert_dead_letters
from webhook_api.store.files import complete_replacement
from webhook_api.store.indexing import index_messages
from webhook_api.store.lock import WriteLock
from webhook_api.store.messages import insert_messages, remove_messages
from webhook_api.store.writer import Writer
from webhook_api.timestamps import now_as_text

talk = pytest.mark.usefixtures("talk")


@talk
def test_after_forget_no_file_has_the_number_or_its_texts(api: Api) -> None:
    path = api.path
    assert api.get("/messages", q="secret")["total"] == 2  # which is remembered
    size = sum(file.stat().st_size for file in (path, path.with_name("app.db-wal")))
    assert traces(path.parent)

    dry = api.ran("forget", NUMBER, "--dry-run")
    before = stored(path)
    result = api.ran("forget", NUMBER)

    assert dry == (0, "2 messages would be removed\n", "")
    assert before == {"from", "to", "other"}
    said = f"2 messages removed\n{path}: {path.stat().st_size} bytes, {size} before\n"
    assert result == (0, said, "")
    assert traces(path.parent) == []
    assert api.get("/messages", q="secret")["total"] == 0
    assert api.get("/stats")["total_messages"] == 1
    assert api.post(a_message(message_id="from", sender=NUMBER, text=TEXT)).status_code == 200
    assert stored(path) == {"other"}
    assert traces(path.parent) == []
    assert differences(path) == []
    assert api.run("forget", NUMBER).stdout.startswith("0 messages removed\n")


@talk
def test_what_an_earlier_removal_left_in_free_pages_goes_as_well(api: Api) -> None:
    remove_messages(api.writer, [1, 2])
    assert traces(api.path.parent)
    api.writer.close()

    assert api.run("forget", NUMBER).stdout.startswith("0 messages removed\n")

    assert traces(api.path.parent) == []


def test_files_that_were_not_looked_into_are_named(api: Api, tmp_path: Path) -> None:
    api.post(a_message(message_id="from", sender=NUMBER, text=TEXT))
    api.run("backup", tmp_path / "b.db")
    api.run("restore", tmp_path / "b.db")
    (tmp_path / "app.db-wal.orphan").touch()
    (tmp_path / "c.db.partial").write_bytes(bytes(4096))  # a backup that was killed early
    (tmp_path / ".app.db-litestream").mkdir()
    (tmp_path / "letter").write_text("Dear reader")

    named = api.run("forget", NUMBER).stdout.splitlines()[2:]

    (kept,) = tmp_path.glob("app-replaced-*.db")
    ending = "may contain the number; delete it if you do not need it"
    others = (".app.db-litestream", "app.db-wal.orphan", "b.db", "c.db.partial")
    files = sorted([kept, *(tmp_path / name for name in others)])
    assert named == [f"{file}: {ending}" for file in files]


def test_an_empty_database_can_be_compacted(api: Api) -> None:
    assert api.run("forget", NUMBER).stdout.startswith("0 messages removed\n")

    assert api.post(a_message()).status_code == 200
    assert differences(api.path) == []


def kept(kind: str | None = None, payload: object = None, **fields: Any) -> ProviderMessage:
    origin = Origin("meta", kind, as_json(payload) if payload else None)
    return ProviderMessage.model_validate({**a_message(**fields), "kept": origin})


@pytest.mark.parametrize(
    ("address", "payload"),
    [
        ("US.2", {"from_user_id": "US.2"}),
        ("José", {"contact": {"user_id": "José"}}),
        (NUMBER, {"system": {"wa_id": NUMBER[1:]}}),
        (NUMBER, {"ForwardedFrom": f"whatsapp:{NUMBER}"}),
    ],
)
def test_a_message_with_the_address_in_its_payload_is_forgotten(
    api: Api, address: str, payload: dict[str, Any]
) -> None:
    payloads = [payload, {"from": f"{address}1"}, {"text": f"about {address}"}, None]
    sent = [kept(payload=one, message_id=f"meta:{n}") for n, one in enumerate(payloads)]
    insert_messages(api.writer, sent)

    assert api.run("forget", "--dry-run", address).stdout == "1 messages would be removed\n"
    assert api.run("forget", address).stdout.startswith("1 messages removed\n")

    assert stored(api.path) == {"meta:1", "meta:2", "meta:3"}
    assert differences(api.path) == []


@pytest.mark.parametrize("address", ["US.13491208655302741918", "68849", "SUPPORT", "rcs:agent_1"])
def test_any_other_address_is_forgotten(api: Api, address: str) -> None:
    insert_messages(api.writer, [kept(sender=address)])
    bodies = [b"from " + address.encode(), b"From=" + quote(address, safe="").encode(), b"x"]
    letters = [DeadLetter("meta", "", {}, body, now_as_text()) for body in bodies]
    insert_dead_letters(api.writer, letters)

    result = api.run("forget", address)

    assert result.stdout.startswith("1 messages and 2 dead letters removed\n")
    assert differences(api.path) == []


def test_under_load_no_acknowledged_message_is_lost(tmp_path: Path) -> None:
    with serving(tmp_path, WEB_CONCURRENCY=2) as server:
        server.deliver(message_id="from", sender=NUMBER, text=TEXT)
        with Load(server, "m", threads=4) as load:
            for _ in range(2):
                load.more(30)
                with command(server.database, "forget", NUMBER) as forget:
                    stdout, stderr = forget.communicate()
                assert (forget.returncode, stderr) == (0, "")
            load.more(30)
        server.deliver(message_id="from", sender=NUMBER, text=TEXT)
        total = server.get("/stats").json["total_messages"]

    assert stdout.startswith("0 messages removed\n")
    assert load.failures == []
    assert set(load.statuses) == {200}
    assert load.acknowledged == stored(server.database)
    assert total == len(load.acknowledged)
    assert traces(server.database.parent) == []
    assert differences(server.database) == []


@talk
def test_ctrl_c_in_the_last_step_comes_too_late(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(path: Path, lock: WriteLock) -> None:
        signal.raise_signal(signal.SIGINT)
        complete_replacement(path, lock)

    monkeypatch.setattr(replacing, "complete_replacement", interrupted)

    code, stdout, _ = api.ran("forget", NUMBER)

    assert (code, stdout.splitlines()[0]) == (0, "2 messages removed")
    assert stored(api.path) == {"other"}


@talk
@pytest.mark.parametrize("harm", ["full in the midst", "full at first", "damaged"])
def test_a_full_disk_or_a_damaged_database_leaves_the_database(
    api: Api, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, harm: str
) -> None:
    before = {file.name for file in tmp_path.iterdir()}
    before |= {"app.db.names.lock", "app.db.removal.lock"}
    if harm == "damaged":
        api.damage("UPDATE totals SET messages = 7")
    elif harm == "full at first":
        monkeypatch.setattr("shutil.disk_usage", lambda _folder: SimpleNamespace(free=100_000))
    else:
        monkeypatch.setattr(compaction, "_vacuum_into", failing(sqlite3.SQLITE_FULL))

    code, stdout, stderr = api.ran("forget", NUMBER)

    assert code == 1
    if harm == "damaged":
        assert stdout == "totals messages: kept is 5, should be 1\n"
    elif harm == "full at first":
        assert "no space for" in stderr
    else:
        assert stderr == f"Error: {tmp_path}: No space left on device\n"
    assert {file.name for file in tmp_path.iterdir()} | {"app.db.names.lock"} == before
    assert stored(api.path) == {"from", "to", "other"}


def test_ctrl_c_ends_forget_with_one_line_and_changes_nothing(database: Database) -> None:
    fill(database.path, 20_000)
    folder = database.path.parent

    with command(database.path, "forget", "+7") as process:
        wait_until(lambda: bool(not_empty(folder, "*.compacting.*.partial")))
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)

    assert (process.returncode, out, err) == (130, "stopped; nothing was removed\n", "")
    assert len(stored(database.path)) == 20_000
    assert not [*folder.glob("*compacting*"), *folder.glob("*restored*")]


@talk
@pytest.mark.parametrize("steps", [3, 5, 6, 10, 13, *range(16, 24)])
def test_after_a_kill_at_any_step_all_is_removed_or_nothing(api: Api, steps: int) -> None:
    """The steps: each file that is opened, shortened, renamed or deleted; 23 is the last."""
    path, folder = api.path, api.path.parent
    api.client.get("/messages")  # a pooled reader

    killed(forget_until, path, NUMBER, steps)
    delivered = api.post(a_message(message_id="later"))
    there, gone = stored(path), removed(path, "from", "to")
    found = differences(path)
    Database(path).prepare()

    assert delivered.status_code == 200
    if steps <= 17:  # the renaming of the old file
        assert (there, gone) == ({"from", "to", "other", "later"}, set())
    else:
        assert (there, gone) == ({"other", "later"}, {"from", "to"})
        assert traces(folder) == []
    assert found == []
    endings = (".restored", ".partial", ".discarded", ".orphan")
    assert not [file for file in folder.iterdir() if file.name.endswith(endings)]
    assert api.run("forget", NUMBER).exit_code == 0
    assert traces(folder) == []


def test_prune_removes_what_is_old_and_leaves_everything_exact(api: Api) -> None:
    arrived(api.path, days_ago=91, count=30, prefix="old")
    arrived(api.path, days_ago=89, count=5, prefix="new")
    index_messages(api.writer, max_rows=20)
    assert api.get("/messages", q="hell")["total"] == 35  # which is remembered

    assert api.ran("prune", "--older-than", "90d", "--dry-run") == (
        0, "30 messages would be removed\n", "",
    )  # fmt: skip
    assert api.get("/stats")["total_messages"] == 35
    assert api.ran("prune", "--older-than", "90d") == (0, "30 messages removed\n", "")

    left = {f"new{n}" for n in range(5)}
    assert api.get("/stats")["total_messages"] == 5
    for filters in [{}, {"q": "hell"}, {"q": "h"}, {"since": "2025-01-01T00:00:00Z"}]:
        page = api.get("/messages", **filters)
        assert {message["message_id"] for message in page["data"]} == left
        assert page["total"] == 5
    assert differences(api.path) == []
    assert api.run("prune", "--older-than", "90d").stdout == "0 messages removed\n"


def test_a_repeat_of_a_removed_message_is_a_duplicate(api: Api, tmp_path: Path) -> None:
    arrived(api.path, days_ago=2, count=3)
    assert api.run("prune", "--older-than", "36h").stdout == "3 messages removed\n"
    payloads = [a_message(message_id=name) for name in ["m0", "x", "m2", "x"]]

    reply = api.post(a_message(message_id="m1"))
    imported = api.run("import", "-", stdin=b"\n".join(map(encode, payloads)))

    assert (reply.status_code, reply.json) == (200, {"status": "ok"})
    assert imported.stdout == "created 1, duplicate 3 (with other content 0), bad 0\n"
    assert api.scrape()['webhook_requests_total{result="duplicate"}'] == 1
    assert api.rows("SELECT message_id FROM messages") == [("x",)]


@pytest.mark.parametrize("step", ["index_and_checkpoint", "remove"])
def test_a_prune_that_fails_on_its_way_says_how_many_it_has_removed(
    api: Api, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    arrived(api.path, days_ago=2, count=100)
    done = getattr(Writer, step)

    def fail(*arguments: Any) -> Any:
        if step == "remove" and len(stored(api.path)) == 100:
            return done(*arguments)
        raise Unavailable("database: the disk is full")

    monkeypatch.setattr(Writer, step, fail)

    assert api.ran("prune", "--older-than", "1d") == (
        1, "stopped; 16 messages removed\n", f"Error: database {api.path}: the disk is full\n",
    )  # fmt: skip
    assert len(stored(api.path)) == 84


MANY = 5000


@pytest.fixture
def pruning(database: Database) -> Iterator[Command]:
    """A prune of many messages that has removed some of them."""
    arrived(database.path, days_ago=2, count=MANY)
    process = command(database.path, "prune", "--older-than", "1d")
    with closing(sqlite3.connect(database.path)) as db:
        wait_until(lambda: bool(db.execute("SELECT 1 FROM tombstones").fetchone()))
    assert process.poll() is None
    yield process
    process.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_prune_that_is_stopped_leaves_each_id_either_stored_or_removed(
    pruning: Command, database: Database, number: int
) -> None:
    pruning.send_signal(number)
    out, err = pruning.communicate(timeout=60)

    all_of_them = {f"m{number}" for number in range(MANY)}
    left, gone = stored(database.path), removed(database.path, *all_of_them)
    if number == signal.SIGINT:
        said = f"stopped; {MANY - len(left)} messages removed\n"
        assert (pruning.returncode, out, err) == (130, said, "")
        assert 0 < len(left) < MANY
    assert left | gone == all_of_them
    assert not left & gone
    assert differences(database.path) == []


def test_prune_with_compact_gives_the_space_back(api: Api) -> None:
    arrived(api.path, days_ago=2, count=1500, prefix="old")
    arrived(api.path, days_ago=0, count=5, prefix="new")
    api.run("prune", "--older-than", "20w")  # its end leaves a short WAL
    before = api.path.stat().st_size

    dry = api.run("prune", "--older-than", "1d", "--compact", "--dry-run")
    result = api.run("prune", "--older-than", "1d", "--compact")

    assert dry.stdout == "1500 messages would be removed\n"
    assert result.stdout.startswith("1500 messages removed\n")
    assert api.path.stat().st_size < before / 2
    assert api.get("/stats")["total_messages"] == 5
    assert differences(api.path) == []


class TestDeadLetters:
    """What could not be stored is shown, and tried again."""

    @pytest.fixture
    def config(self, tmp_path: Path) -> Config:
        return a_config(tmp_path)

    def test_they_are_listed_and_shown(self, api: Api) -> None:
        body = b'[ "\x1b[31m", "\xff" ]'
        api.deliver("meta", body)
        api.deliver("twilio", b"Body=x")
        [(first,), (second,)] = api.rows("SELECT created_at FROM dead_letters ORDER BY id")

        listed, shown = api.ran("dead-letters"), api.run("dead-letters", "show", 1)

        assert (listed[0], listed[1].splitlines()) == (0, [
            f"1  {first}  meta  {len(body)} bytes  not JSON",
            f"2  {second}  twilio  6 bytes  1 messages without a valid id",
        ])  # fmt: skip
        assert shown.stdout_bytes == body
        assert "x-hub-signature-256: sha256=" in shown.stderr
        for wrong in ("show", "replay"):
            assert api.ran("dead-letters", wrong, "3") == (
                1, "", "Error: there is no dead letter 3\n",
            )  # fmt: skip
        assert api.run("dead-letters", "show", "x").exit_code == 1

    def test_what_the_present_code_can_read_is_stored_once(
        self, api: Api, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bodies = {
            "meta": from_meta(a_whatsapp(1), a_whatsapp(2)),
            "twilio": from_twilio(),
            "standard": from_standard(message_id="s"),
        }
        with monkeypatch.context() as earlier:
            for provider in bodies:
                earlier.setitem(PARSERS, provider, lambda *_: 1 / 0)
            for provider, body in bodies.items():
                assert api.deliver(provider, body).status_code == 200
        api.deliver("meta", from_meta(a_whatsapp(2)))
        api.deliver("meta", b"{")
        api.deliver("meta", from_meta(a_whatsapp(3), {}))
        [(came,)] = api.rows("SELECT created_at FROM dead_letters WHERE provider = 'twilio'")

        one, rest = api.ran("dead-letters", "replay", 2), api.ran("dead-letters", "replay")

        assert one[:2] == (0, "2: created 1, duplicate 0\n")
        assert (rest[0], rest[1].splitlines()) == (1, [
            "1: created 1, duplicate 1",
            "3: created 1, duplicate 0",
            "4: stays, not JSON",
            "5: created 0, duplicate 1; stays, 1 messages without a valid id",
        ])  # fmt: skip
        assert api.rows("SELECT id FROM dead_letters") == [(4,), (5,)]
        code, stdout, stderr = api.ran("dead-letters", "remove", 4, 9)
        assert (code, stdout) == (1, "1 removed\n")
        assert "1 of them are not there" in stderr
        assert api.rows("SELECT id FROM dead_letters") == [(5,)]
        assert api.get("/messages")["total"] == 5
        assert api.rows("SELECT ts FROM messages WHERE provider = 'twilio'") == [(came,)]
        assert differences(api.path) == []

    def test_a_delivery_of_many_messages_is_stored_in_steps(self, api: Api) -> None:
        api.deliver("meta", from_meta(*some_whatsapps(2500)))

        assert api.run("dead-letters", "replay").stdout == "1: created 2500, duplicate 0\n"

        assert api.rows("SELECT count(*) FROM messages") == [(2500,)]
        assert api.run("dead-letters").stdout == ""

    def test_a_replay_waits_for_no_removal(self, api: Api) -> None:
        with removal_lock(Database(api.path)):
            code, _, stderr = api.ran("dead-letters", "replay")

        assert (code, stderr) == (1, "Error: another process is removing messages\n")
