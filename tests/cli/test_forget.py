"""`flask --app wsgi forget`: no file has the number any more, nor a text to or from it.

If it fails or is stopped, all is removed or nothing.
"""

import signal
import sqlite3
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import pytest

from tests.builders import a_message
from tests.cli.running import command
from tests.conftest import Api
from tests.dying import forget_until
from tests.forks import killed
from tests.serving import Load, serving, wait_until
from tests.store.files import differences, failing, fill, removed, stored
from tests.store.forgotten import NUMBER, TEXT, traces
from webhook_api.maintenance import compaction, replacing
from webhook_api.models import Origin, ProviderMessage
from webhook_api.providers.texts import as_json
from webhook_api.store.connections import connect
from webhook_api.store.database import Database
from webhook_api.store.dead_letters import DeadLetter, insert_dead_letters
from webhook_api.store.files import complete_replacement
from webhook_api.store.lock import WriteLock, unshared
from webhook_api.store.messages import insert_messages, remove_messages


@pytest.mark.usefixtures("talk")
def test_after_forget_no_file_has_the_number_or_its_texts(api: Api) -> None:
    path = api.config.database_path
    assert api.get("/messages", q="secret")["total"] == 2  # which is remembered
    size = sum(file.stat().st_size for file in (path, path.with_name("app.db-wal")))
    assert traces(path.parent)

    dry = api.run("forget", NUMBER, "--dry-run")
    before = stored(path)
    result = api.run("forget", NUMBER)

    assert (dry.exit_code, dry.stdout) == (0, "2 messages would be removed\n")
    assert before == {"from", "to", "other"}
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == (
        f"2 messages removed\n{path}: {path.stat().st_size} bytes, {size} before\n"
    )
    assert traces(path.parent) == []
    assert api.get("/messages", q="secret")["total"] == 0
    assert api.get("/stats")["total_messages"] == 1
    assert api.post(a_message(message_id="from", sender=NUMBER, text=TEXT)).status_code == 200
    assert stored(path) == {"other"}
    assert traces(path.parent) == []
    assert differences(path) == []
    assert api.run("forget", NUMBER).stdout.startswith("0 messages removed\n")


@pytest.mark.usefixtures("talk")
def test_what_an_earlier_removal_left_in_free_pages_goes_as_well(api: Api, tmp_path: Path) -> None:
    with closing(unshared(connect(api.config.database_path, "rw", timeout_s=5))) as db:
        remove_messages(db, [1, 2])
    assert traces(tmp_path)

    assert api.run("forget", NUMBER).stdout.startswith("0 messages removed\n")

    assert traces(tmp_path) == []


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
    assert differences(api.config.database_path) == []


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
    others = [{"from": f"{address}1"}, {"text": f"about {address}"}, None]
    sent = [
        ProviderMessage.model_validate(
            {
                **a_message(message_id=f"meta:{number}"),
                "kept": Origin("meta", None, as_json(content) if content else None),
            }
        )
        for number, content in enumerate([payload, *others])
    ]
    with closing(unshared(connect(api.config.database_path, "rw", timeout_s=5))) as db:
        insert_messages(db, sent)

    assert api.run("forget", "--dry-run", address).stdout == "1 messages would be removed\n"
    assert api.run("forget", address).stdout.startswith("1 messages removed\n")

    assert stored(api.config.database_path) == {"meta:1", "meta:2", "meta:3"}
    assert differences(api.config.database_path) == []


@pytest.mark.parametrize("address", ["US.13491208655302741918", "68849", "SUPPORT", "rcs:agent_1"])
def test_any_other_address_is_forgotten(api: Api, address: str) -> None:
    origin = Origin("meta")
    sent = ProviderMessage.model_validate({**a_message(sender=address), "kept": origin})
    with closing(unshared(connect(api.config.database_path, "rw", timeout_s=5))) as db:
        insert_messages(db, [sent])
        letters = [b"from " + address.encode(), b"From=" + quote(address, safe="").encode(), b"x"]
        kept = [DeadLetter.of("meta", "", {}, body) for body in letters]
        insert_dead_letters(db, kept)

    result = api.run("forget", address)

    assert result.stdout.startswith("1 messages and 2 dead letters removed\n")
    assert differences(api.config.database_path) == []


def test_under_load_no_acknowledged_message_is_lost(tmp_path: Path) -> None:
    with serving(tmp_path, WEB_CONCURRENCY=2) as server:
        server.deliver(message_id="from", sender=NUMBER, text=TEXT)
        with Load(server, "m", threads=4) as load:
            for _ in range(2):
                before = len(load.acknowledged)
                wait_until(lambda before=before: len(load.acknowledged) > before + 30)  # type: ignore[misc]
                with command(server.database, "forget", NUMBER) as forget:
                    stdout, stderr = forget.communicate()
                assert (forget.returncode, stderr) == (0, "")
            before = len(load.acknowledged)
            wait_until(lambda: len(load.acknowledged) > before + 30)
        server.deliver(message_id="from", sender=NUMBER, text=TEXT)
        total = server.get("/stats").json["total_messages"]

    assert stdout.startswith("0 messages removed\n")
    assert load.failures == []
    assert set(load.statuses) == {200}
    assert load.acknowledged == stored(server.database)
    assert total == len(load.acknowledged)
    assert traces(server.database.parent) == []
    assert differences(server.database) == []


@pytest.mark.usefixtures("talk")
def test_ctrl_c_in_the_last_step_comes_too_late(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(path: Path, lock: WriteLock) -> None:
        signal.raise_signal(signal.SIGINT)
        complete_replacement(path, lock)

    monkeypatch.setattr(replacing, "complete_replacement", interrupted)

    result = api.run("forget", NUMBER)

    assert (result.exit_code, result.stdout.splitlines()[0]) == (0, "2 messages removed")
    assert stored(api.config.database_path) == {"other"}


@pytest.mark.usefixtures("talk")
def test_a_full_disk_leaves_the_database(
    api: Api, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = {file.name for file in tmp_path.iterdir()}
    before |= {"app.db.names.lock", "app.db.removal.lock"}
    monkeypatch.setattr(compaction, "_vacuum_into", failing(sqlite3.SQLITE_FULL))
    in_the_midst = api.run("forget", NUMBER)
    monkeypatch.setattr("shutil.disk_usage", lambda _folder: SimpleNamespace(free=100_000))
    at_first = api.run("forget", NUMBER)

    assert in_the_midst.stderr == f"Error: {tmp_path}: No space left on device\n"
    assert "no space for" in at_first.stderr
    assert (in_the_midst.exit_code, at_first.exit_code) == (1, 1)
    assert {file.name for file in tmp_path.iterdir()} == before
    assert stored(api.config.database_path) == {"from", "to", "other"}


@pytest.mark.usefixtures("talk")
def test_a_damaged_database_is_not_replaced(api: Api) -> None:
    with closing(sqlite3.connect(api.config.database_path)) as db, db:
        db.execute("UPDATE totals SET messages = 7")

    result = api.run("forget", NUMBER)

    assert (result.exit_code, result.stdout) == (
        1,
        "totals messages: kept is 5, should be 1\n",
    )
    assert stored(api.config.database_path) == {"from", "to", "other"}


def test_ctrl_c_ends_forget_with_one_line_and_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    Database(path).prepare(create=True)
    fill(path, 20_000)

    with command(path, "forget", "+7") as process:
        wait_until(lambda: any(f.stat().st_size for f in tmp_path.glob("*.compacting.*.partial")))
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)

    assert (process.returncode, out, err) == (130, "stopped; nothing was removed\n", "")
    assert len(stored(path)) == 20_000
    assert not list(tmp_path.glob("*compacting*"))
    assert not list(tmp_path.glob("*restored*"))


@pytest.mark.usefixtures("talk")
@pytest.mark.parametrize("steps", [3, 5, 6, 10, 13, *range(16, 24)])
def test_after_a_kill_at_any_step_all_is_removed_or_nothing(api: Api, steps: int) -> None:
    """The steps: each file that is opened, shortened, renamed or deleted; 23 is the last."""
    path = api.config.database_path
    api.client.get("/messages")  # a pooled reader

    killed(forget_until, path, NUMBER, steps)
    delivered = api.post(a_message(message_id="later"))
    there = stored(path)
    gone = removed(path, "from", "to")
    found = differences(path)
    Database(path).prepare()

    assert delivered.status_code == 200
    assert (there, gone) == (
        ({"from", "to", "other", "later"}, set())
        if steps <= 17  # the renaming of the old file
        else ({"other", "later"}, {"from", "to"})
    )
    assert found == []
    endings = (".restored", ".partial", ".discarded", ".orphan")
    assert not [file for file in path.parent.iterdir() if file.name.endswith(endings)]
    assert steps <= 17 or traces(path.parent) == []
    assert api.run("forget", NUMBER).exit_code == 0
    assert traces(path.parent) == []
