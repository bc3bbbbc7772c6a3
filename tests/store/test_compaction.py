"""`prune --compact` and `forget`: nothing of what was removed is left in the database's files."""

import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import Result
from flask import Flask
from flask.testing import FlaskClient

from tests.builders import a_message
from tests.conftest import Get, Post
from tests.dying import forget_until
from tests.forks import killed
from tests.serving import Load, serving, wait_until
from tests.store.test_removal import arrived, differences
from tests.test_backup import command, fill
from webhook_api.config import Config
from webhook_api.models import parse_message
from webhook_api.store import compaction, replacing
from webhook_api.store.compaction import compact
from webhook_api.store.connections import connect
from webhook_api.store.copying import Progress
from webhook_api.store.database import Database
from webhook_api.store.finishing import put_in_place
from webhook_api.store.messages import insert_messages
from webhook_api.store.removal import one_at_a_time
from webhook_api.store.selection import of_number
from webhook_api.store.tombstones import remove_messages, was_removed

Run = Callable[..., Result]
NUMBER = "+4915112345678"
TEXT = "My secret is ☃ snow"
SECRETS = [NUMBER.encode(), b"4915112345678", TEXT.encode(), "☃".encode()]


@pytest.fixture
def run(app: Flask) -> Run:
    def invoke(*args: object) -> Result:
        return app.test_cli_runner().invoke(args=[str(arg) for arg in args])

    return invoke


@pytest.fixture
def talk(post_signed: Post) -> None:
    """Messages from the number, to it, and between others, in this order."""
    post_signed(a_message(message_id="from", sender=NUMBER, text=TEXT))
    post_signed(a_message(message_id="to", to=NUMBER, text=TEXT))
    post_signed(a_message(message_id="other", text="Hello"))


def store(path: Path, *message_ids: str, **fields: object) -> None:
    with closing(connect(path, "rw", patience_s=5)) as db:
        messages = [parse_message(a_message(message_id=one, **fields)) for one in message_ids]
        insert_messages(db, messages)


def traces(folder: Path) -> list[str]:
    """The files in which the number or its text can be found."""
    return [
        file.name
        for file in sorted(folder.iterdir())
        if file.is_file() and any(secret in file.read_bytes() for secret in SECRETS)
    ]


def stored(path: Path) -> set[str]:
    with closing(sqlite3.connect(path)) as db:
        return {message_id for (message_id,) in db.execute("SELECT message_id FROM messages")}


def removed(path: Path, *message_ids: str) -> set[str]:
    with closing(sqlite3.connect(path)) as db:
        return was_removed(db, message_ids)


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
    with closing(sqlite3.connect(config.database_path, isolation_level=None)) as db:
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


def test_prune_with_compact_gives_the_space_back(run: Run, config: Config, get: Get) -> None:
    path = config.database_path
    arrived(path, days_ago=2, count=1500, prefix="old")
    arrived(path, days_ago=0, count=5, prefix="new")
    run("prune", "--older-than", "20w")  # its end leaves a short WAL
    before = path.stat().st_size

    dry = run("prune", "--older-than", "1d", "--compact", "--dry-run")
    result = run("prune", "--older-than", "1d", "--compact")

    assert dry.stdout == "1500 messages would be removed\n"
    assert result.stdout.startswith("1500 messages removed\n")
    assert path.stat().st_size < before / 2
    assert get("/stats")["total_messages"] == 5
    assert differences(path) == []


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


@pytest.mark.usefixtures("talk")
def test_two_at_once_and_no_database_are_one_line(run: Run, config: Config) -> None:
    with closing(Database(config.database_path)) as database, one_at_a_time(database):
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


def once_meanwhile(act: Callable[[], None]) -> Progress:
    """Do something in the midst of a compaction, when the database was copied."""
    waiting = [act]

    def progress(done: int, _of: int) -> None:
        if done > 100 and waiting:
            waiting.pop()()

    return progress


@pytest.mark.parametrize("few", [0, 200], ids=["before the lock", "under the lock"])
def test_what_is_stored_meanwhile_is_in_the_new_file(
    database: Database, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "_FEW", few)
    path = database.path
    store(path, "a", "b", "c", text="Hello ☃")
    store(path, "x", sender=NUMBER, text=TEXT)

    def arrive() -> None:
        store(path, "d", "e", "d")
        store(path, "y", "z", to=NUMBER, text=TEXT)

    done = compact(database, of_number(NUMBER), once_meanwhile(arrive))

    assert done.removed == 3
    assert stored(path) == {"a", "b", "c", "d", "e"}
    assert removed(path, "x", "y", "z", "a") == {"x", "y", "z"}
    assert [secret for secret in SECRETS[:3] if secret in path.read_bytes()] == []
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT deletions FROM totals").fetchone() == (3,)
        (last,) = db.execute("SELECT seq FROM sqlite_sequence").fetchone()
    store(path, "later")
    with closing(sqlite3.connect(path)) as db:
        newest = db.execute("SELECT max(id) FROM messages WHERE message_id = 'later'").fetchone()
    assert newest == (last + 1,) > (8,)  # ids of removed messages are not used again
    assert differences(path) == []


def _remove_one(path: Path) -> None:
    with closing(connect(path, "rw", patience_s=5)) as db:
        remove_messages(db, [1])


def _exchange(path: Path) -> None:
    shutil.copyfile(path, path.with_name("other.db"))
    path.with_name("other.db").replace(path)


@pytest.mark.parametrize("act", [_remove_one, _exchange])
def test_what_was_removed_or_exchanged_meanwhile_does_not_come_back(
    database: Database, act: Callable[[Path], None]
) -> None:
    path = database.path
    store(path, "a", "b")
    if act is _exchange:
        with closing(connect(path, "rw", patience_s=5)) as db:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    with pytest.raises(BlockingIOError, match="something else"):
        compact(database, progress=once_meanwhile(lambda: act(path)))

    assert stored(path) == ({"b"} if act is _remove_one else {"a", "b"})
    assert differences(path) == []


@pytest.mark.usefixtures("talk")
def test_a_restore_at_the_same_time_is_refused(database: Database, tmp_path: Path) -> None:
    refused = []

    def restore() -> None:
        shutil.copyfile(database.path, tmp_path / "b.db")
        process = command(database.path, "restore", tmp_path / "b.db")
        refused.append(process.communicate())

    compact(database, progress=once_meanwhile(restore))

    assert refused == [
        ("", f"Error: {database.path}.restored.partial: another command is writing it\n")
    ]


def test_a_long_read_goes_on_and_nobody_waits_for_it(database: Database) -> None:
    store(database.path, "a", "b", text="Hello")
    store(database.path, "x", sender=NUMBER)
    with database.reader() as reader:
        reader.execute("BEGIN")
        rows = reader.execute("SELECT message_id FROM messages ORDER BY id")
        first = rows.fetchone()

        compact(database, of_number(NUMBER))

        assert [first, *rows] == [("a",), ("b",), ("x",)]
    assert stored(database.path) == {"a", "b"}


@pytest.mark.usefixtures("talk")
def test_ctrl_c_in_the_last_step_comes_too_late(
    run: Run, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(path: Path) -> None:
        signal.raise_signal(signal.SIGINT)
        put_in_place(path)

    monkeypatch.setattr(replacing, "put_in_place", interrupted)

    result = run("forget", NUMBER)

    assert (result.exit_code, result.stdout.splitlines()[0]) == (0, "2 messages removed")
    assert stored(config.database_path) == {"other"}


_READ_ON = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("BEGIN")
db.execute("SELECT count(*) FROM messages").fetchone()
print("reading", flush=True)
sys.stdin.read()
"""


def test_where_litestream_reads_it_is_refused_before_the_work(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replacing, "_READERS_PATIENCE_S", 0.1)
    replicated = Database(database.path, leaves_checkpoints=True)
    steps = []
    with subprocess.Popen(
        [sys.executable, "-c", _READ_ON, str(database.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as other:
        assert other.stdout
        other.stdout.readline()

        with pytest.raises(BlockingIOError, match="stop Litestream first"):
            compact(replicated, progress=lambda done, of: steps.append((done, of)))

        other.communicate()
    assert steps == []


@pytest.mark.usefixtures("talk")
def test_a_full_disk_leaves_the_database(
    run: Run, config: Config, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def full(*_args: object) -> None:
        error = sqlite3.OperationalError("database or disk is full")
        error.sqlite_errorcode = sqlite3.SQLITE_FULL
        raise error

    before = {file.name for file in tmp_path.iterdir()} | {"app.db.removal.lock"}
    monkeypatch.setattr(compaction, "_vacuum_into", full)
    in_the_midst = run("forget", NUMBER)
    monkeypatch.setattr("shutil.disk_usage", lambda _folder: SimpleNamespace(free=100_000))
    at_first = run("forget", NUMBER)

    assert in_the_midst.stderr == f"Error: {tmp_path}: No space left on device\n"
    assert "no space for" in at_first.stderr
    assert (in_the_midst.exit_code, at_first.exit_code) == (1, 1)
    assert {file.name for file in tmp_path.iterdir()} == before
    assert stored(config.database_path) == {"from", "to", "other"}


@pytest.mark.usefixtures("talk")
def test_a_damaged_database_is_not_replaced(run: Run, config: Config) -> None:
    with closing(sqlite3.connect(config.database_path)) as db, db:
        db.execute("UPDATE totals SET messages = 7")

    result = run("forget", NUMBER)

    assert (result.exit_code, result.stdout) == (
        1,
        "totals messages: kept is 5, should be 1\n",
    )
    assert stored(config.database_path) == {"from", "to", "other"}


def test_ctrl_c_ends_forget_with_one_line_and_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    Database(path).prepare(create=True)
    fill(path, 20_000)

    with command(path, "forget", "+7") as process:
        copy = path.with_name("app.db.compacting")
        wait_until(lambda: copy.exists() and copy.stat().st_size > 0)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)

    assert (process.returncode, out, err) == (130, "stopped; nothing was removed\n", "")
    assert len(stored(path)) == 20_000
    assert not list(tmp_path.glob("*compacting*"))
    assert not list(tmp_path.glob("*restored*"))


@pytest.mark.usefixtures("talk")
@pytest.mark.parametrize("steps", [5, 11, 12, 17, 19, 20, 21, *range(24, 32)])
def test_after_a_kill_at_any_step_all_is_removed_or_nothing(
    run: Run, config: Config, client: FlaskClient, post_signed: Post, steps: int
) -> None:
    """The steps: each file that is opened, shortened, renamed or deleted; 31 is the last."""
    path = config.database_path
    client.get("/messages")  # a pooled reader

    killed(forget_until, path, NUMBER, steps)
    delivered = post_signed(a_message(message_id="later"))
    there = stored(path)
    gone = removed(path, "from", "to")
    found = differences(path)
    Database(path).prepare()

    assert delivered.status_code == 200
    assert (there, gone) == (
        ({"from", "to", "other", "later"}, set())
        if steps <= 25  # the renaming of the old file
        else ({"other", "later"}, {"from", "to"})
    )
    assert found == []
    endings = (".compacting", ".restored", ".partial", ".discarded", ".orphan")
    assert not [file for file in path.parent.iterdir() if file.name.endswith(endings)]
    assert steps <= 25 or traces(path.parent) == []
    assert run("forget", NUMBER).exit_code == 0
    assert traces(path.parent) == []


def test_under_load_no_acknowledged_message_is_lost(tmp_path: Path) -> None:
    with serving(tmp_path, WEB_CONCURRENCY=2) as server:
        server.deliver(message_id="from", sender=NUMBER, text=TEXT)
        with Load(server, "m") as load:
            for _ in range(2):
                before = len(load.acknowledged)
                wait_until(lambda before=before: len(load.acknowledged) > before + 100)  # type: ignore[misc]
                with command(server.database, "forget", NUMBER) as forget:
                    stdout, stderr = forget.communicate()
                assert (forget.returncode, stderr) == (0, "")
            before = len(load.acknowledged)
            wait_until(lambda: len(load.acknowledged) > before + 100)
        server.deliver(message_id="from", sender=NUMBER, text=TEXT)
        total = server.get("/stats").json["total_messages"]

    assert stdout.startswith("0 messages removed\n")
    assert load.failures == []
    assert set(load.statuses) == {200}
    assert load.acknowledged == stored(server.database)
    assert total == len(load.acknowledged)
    assert traces(server.database.parent) == []
    assert differences(server.database) == []
