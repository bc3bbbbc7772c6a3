"""`flask --app wsgi forget`: no file has the number any more, nor a text to or from it."""

from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.builders import a_message
from tests.cli.running import Run, command
from tests.conftest import Get, Post
from tests.serving import Load, serving, wait_until
from tests.store.files import differences, stored
from tests.store.forgotten import NUMBER, TEXT, traces
from webhook_api.config import Config
from webhook_api.maintenance.removal import removal_lock
from webhook_api.models import Origin, ProviderMessage
from webhook_api.store.connections import connect
from webhook_api.store.database import Database
from webhook_api.store.dead_letters import DeadLetter, insert_dead_letters
from webhook_api.store.lock import unshared
from webhook_api.store.messages import insert_messages, remove_messages


@pytest.mark.usefixtures("talk")
def test_after_forget_no_file_has_the_number_or_its_texts(
    run: Run, config: Config, get: Get, post_signed: Post
) -> None:
    path = config.database_path
    assert get("/messages", q="secret")["total"] == 2  # which is remembered
    size = sum(file.stat().st_size for file in (path, path.with_name("app.db-wal")))
    assert traces(path.parent)

    dry = run("forget", NUMBER, "--dry-run")
    before = stored(path)
    result = run("forget", NUMBER)

    assert (dry.exit_code, dry.stdout) == (0, "2 messages would be removed\n")
    assert before == {"from", "to", "other"}
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == (
        f"2 messages removed\n{path}: {path.stat().st_size} bytes, {size} before\n"
    )
    assert traces(path.parent) == []
    assert get("/messages", q="secret")["total"] == 0
    assert get("/stats")["total_messages"] == 1
    assert post_signed(a_message(message_id="from", sender=NUMBER, text=TEXT)).status_code == 200
    assert stored(path) == {"other"}
    assert traces(path.parent) == []
    assert differences(path) == []
    assert run("forget", NUMBER).stdout.startswith("0 messages removed\n")


@pytest.mark.usefixtures("talk")
def test_what_an_earlier_removal_left_in_free_pages_goes_as_well(
    run: Run, config: Config, tmp_path: Path
) -> None:
    with closing(unshared(connect(config.database_path, "rw", timeout_s=5))) as db:
        remove_messages(db, [1, 2])
    assert traces(tmp_path)

    assert run("forget", NUMBER).stdout.startswith("0 messages removed\n")

    assert traces(tmp_path) == []


def test_files_that_were_not_looked_into_are_named(
    run: Run, post_signed: Post, tmp_path: Path
) -> None:
    post_signed(a_message(message_id="from", sender=NUMBER, text=TEXT))
    run("backup", tmp_path / "b.db")
    run("restore", tmp_path / "b.db")
    (tmp_path / "app.db-wal.orphan").touch()
    (tmp_path / "c.db.partial").write_bytes(bytes(4096))  # a backup that was killed early
    (tmp_path / ".app.db-litestream").mkdir()
    (tmp_path / "letter").write_text("Dear reader")

    named = run("forget", NUMBER).stdout.splitlines()[2:]

    (kept,) = tmp_path.glob("app-replaced-*.db")
    ending = "may contain the number; delete it if you do not need it"
    others = (".app.db-litestream", "app.db-wal.orphan", "b.db", "c.db.partial")
    files = sorted([kept, *(tmp_path / name for name in others)])
    assert named == [f"{file}: {ending}" for file in files]


def test_an_empty_database_can_be_compacted(run: Run, config: Config, post_signed: Post) -> None:
    assert run("forget", NUMBER).stdout.startswith("0 messages removed\n")

    assert post_signed(a_message()).status_code == 200
    assert differences(config.database_path) == []


@pytest.mark.parametrize(
    "number", ["", "+", "4915112345678", "+49 151", "+49x", "+٤٩", "+49\n", "-5", "%", "++49"]
)
def test_a_number_that_is_none_is_one_line(run: Run, number: str) -> None:
    result = run("forget", "--", number)

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.count("\n") == 1
    assert "is no number, as in +919876543210" in result.stderr


@pytest.mark.parametrize("address", ["US.13491208655302741918", "68849", "SUPPORT", "rcs:agent_1"])
def test_any_other_address_is_forgotten(run: Run, config: Config, address: str) -> None:
    origin = Origin("meta")
    sent = ProviderMessage.model_validate({**a_message(sender=address), "kept": origin})
    with closing(unshared(connect(config.database_path, "rw", timeout_s=5))) as db:
        insert_messages(db, [sent])
        letters = [b"from " + address.encode(), b"From=" + quote(address, safe="").encode(), b"x"]
        kept = [DeadLetter.of("meta", "", {}, body) for body in letters]
        insert_dead_letters(db, kept)

    result = run("forget", address)

    assert result.stdout.startswith("1 messages and 2 dead letters removed\n")
    assert differences(config.database_path) == []


@pytest.mark.usefixtures("talk")
def test_two_at_once_and_no_database_are_one_line(run: Run, config: Config) -> None:
    with closing(Database(config.database_path)) as database, removal_lock(database):
        busy = [run("forget", NUMBER), run("prune", "--older-than", "1d", "--compact")]
    everything = stored(config.database_path)
    config.database_path.unlink()
    gone = run("forget", NUMBER)

    assert [result.stderr for result in busy] == [
        "Error: another process is removing messages\n"
    ] * 2
    assert everything == {"from", "to", "other"}
    assert gone.stderr.startswith(f"Error: database {config.database_path}: No such file")
    assert [result.exit_code for result in (*busy, gone)] == [1, 1, 1]


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
