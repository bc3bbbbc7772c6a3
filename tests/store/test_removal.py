"""Removed messages: all counts stay exact, and their ids stay known for ever."""

import signal
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from pathlib import Path

import pytest
from click.testing import Result
from flask import Flask

from tests.builders import a_message, an_app, encode, samples, signed, some_messages
from tests.conftest import Get, Post, Rows, Scrape, Store
from tests.serving import wait_until
from tests.test_backup import command
from webhook_api import close_app
from webhook_api.config import Config
from webhook_api.models import parse_message
from webhook_api.store.connections import Connection, connect
from webhook_api.store.database import Database
from webhook_api.store.indexing import index_messages
from webhook_api.store.messages import StoreResult, insert_messages
from webhook_api.store.removal import Remover, one_at_a_time
from webhook_api.store.retention import Retention
from webhook_api.store.schema import migrate
from webhook_api.store.selection import EVERYTHING, older_than
from webhook_api.store.tombstones import remove_messages
from webhook_api.store.verify import verify
from webhook_api.store.writer import Writer

Run = Callable[..., Result]
NOW = datetime.now(UTC)
DUPLICATE = StoreResult(created=False)


@pytest.fixture
def run(app: Flask) -> Run:
    def invoke(*args: object) -> Result:
        return app.test_cli_runner().invoke(args=[str(arg) for arg in args])

    return invoke


def arrived(database: Path, *, days_ago: float, count: int, prefix: str = "m") -> None:
    """Store `count` messages as if they had arrived some days ago."""
    at = older_than(NOW - timedelta(days=days_ago)).parameters[0]
    with closing(connect(database, "rw", patience_s=5)) as db:
        db.execute("PRAGMA synchronous = OFF")
        # Stored, taken out and put back as they were, but for the time: rows are final.
        before = db.execute("SELECT coalesce(max(id), 0) FROM messages").fetchone()[0]
        messages = [m | {"message_id": f"{prefix}{n}"} for n, m in enumerate(some_messages(count))]
        insert_messages(db, [parse_message(message) for message in messages])
        columns = "message_id, from_msisdn, to_msisdn, ts, text, seconds, nanos, folded"
        db.executescript(f"""
            BEGIN;
            CREATE TEMP TABLE kept AS SELECT {columns} FROM messages WHERE id > {before};
            DELETE FROM messages WHERE id > {before};
            INSERT INTO messages ({columns}, created_at) SELECT *, '{at}' FROM kept;
            DROP TABLE kept;
            COMMIT;
        """)


def differences(path: Path) -> list[str]:
    with closing(Database(path)) as database:
        return verify(database).differences


def test_prune_removes_what_is_old_and_leaves_everything_exact(
    run: Run, config: Config, writer: Connection, get: Get
) -> None:
    arrived(config.database_path, days_ago=91, count=30, prefix="old")
    arrived(config.database_path, days_ago=89, count=5, prefix="new")
    index_messages(writer, most=20)
    assert get("/messages", q="hell")["total"] == 35  # which is remembered

    dry = run("prune", "--older-than", "90d", "--dry-run")
    assert (dry.exit_code, dry.stdout) == (0, "30 messages would be removed\n")
    assert get("/stats")["total_messages"] == 35
    result = run("prune", "--older-than", "90d")

    assert (result.exit_code, result.output) == (0, "30 messages removed\n")
    left = {f"new{n}" for n in range(5)}
    assert get("/stats")["total_messages"] == 5
    for filters in [{}, {"q": "hell"}, {"q": "h"}, {"since": "2025-01-01T00:00:00Z"}]:
        page = get("/messages", **filters)
        assert {message["message_id"] for message in page["data"]} == left
        assert page["total"] == 5
    assert differences(config.database_path) == []
    assert run("prune", "--older-than", "90d").stdout == "0 messages removed\n"


def test_a_redelivery_of_a_removed_message_is_a_duplicate(
    run: Run, post_signed: Post, rows: Rows, scrape: Scrape, config: Config, tmp_path: Path
) -> None:
    arrived(config.database_path, days_ago=2, count=3)
    assert run("prune", "--older-than", "36h").stdout == "3 messages removed\n"
    lines = tmp_path / "lines.ndjson"
    payloads = [a_message(message_id=name) for name in ["m0", "x", "m2", "x"]]
    lines.write_bytes(b"\n".join(map(encode, payloads)))

    reply = post_signed(a_message(message_id="m1"))
    imported = run("import", lines)

    assert (reply.status_code, reply.json) == (200, {"status": "ok"})
    assert imported.stdout == "created 1, duplicate 3 (with other content 0), bad 0\n"
    assert scrape()['webhook_requests_total{result="duplicate"}'] == 1
    assert rows("SELECT message_id FROM messages") == [("x",)]


def test_a_batch_of_removed_new_and_repeated_ids_says_which_is_which(
    store: Store, writer: Connection
) -> None:
    store(*(a_message(message_id=name) for name in "abc"))
    assert remove_messages(writer, [1, 3, 99]) == 2

    results = store(*(a_message(message_id=name, text="?") for name in "adbcda"))

    assert results == [
        DUPLICATE,
        StoreResult(created=True),
        StoreResult(created=False, conflict=True),
        DUPLICATE,
        DUPLICATE,
        DUPLICATE,
    ]
    assert store(a_message(message_id="a")) == [DUPLICATE]


def test_a_tombstone_is_a_digest_under_a_key_of_this_database(
    store: Store, writer: Connection, rows: Rows
) -> None:
    store(a_message(message_id="a\0ß😀"))
    remove_messages(writer, [1])

    (key,) = rows("SELECT tombstone_key FROM totals")[0]
    expected = blake2b("a\0ß😀".encode(), digest_size=16, key=key).digest()
    assert rows("SELECT digest FROM tombstones") == [(expected,)]
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as other:
        migrate(other)
        assert other.execute("SELECT tombstone_key FROM totals").fetchone() != (key,)


def steps_to_remove(db: Connection, row_id: int) -> int:
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    db.set_progress_handler(count, 1)
    remove_messages(db, [row_id])
    db.set_progress_handler(None, 1)
    return steps


def test_a_removal_costs_the_same_however_many_messages_there_are(
    store: Store, writer: Connection
) -> None:
    # Each in periods of its own.
    days = [a_message(message_id=f"m{n}", ts=f"{2000 + n}-01-15T10:00:00Z") for n in range(900)]
    store(*days[:10])
    of_few = steps_to_remove(writer, 1)
    store(*days[10:])

    assert steps_to_remove(writer, 2) < 1.2 * of_few


def test_a_removal_does_not_look_at_every_character_that_there_is(
    store: Store, writer: Connection, config: Config
) -> None:
    chinese = [chr(0x4E00 + n) for n in range(8000)]
    store(
        a_message(message_id="short", text="".join(chinese[:20]) + "Aa"),
        a_message(message_id="long", text="".join(chinese[:4000])),
        a_message(message_id="same", text="".join(chinese[10:30])),
    )
    while index_messages(writer, most=10):
        pass
    with_4000 = steps_to_remove(writer, 1)
    store(a_message(message_id="other", text="".join(chinese[4000:8000])))
    while index_messages(writer, most=10):
        pass

    assert steps_to_remove(writer, 3) < 1.2 * with_4000
    assert with_4000 < 4000
    remove_messages(writer, [2])  # a text with half of all characters
    assert differences(config.database_path) == []


def test_a_removal_that_fails_leaves_the_message_and_no_tombstone(
    store: Store, writer: Connection, rows: Rows
) -> None:
    store(a_message())
    writer.execute(
        "CREATE TEMP TRIGGER refuse AFTER DELETE ON messages"
        " BEGIN SELECT raise(ABORT, 'refused'); END"
    )

    with pytest.raises(sqlite3.IntegrityError, match="refused"):
        remove_messages(writer, [1])

    assert rows("SELECT count(*) FROM messages") == [(1,)]
    assert rows("SELECT count(*) FROM tombstones") == [(0,)]


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (
            "INSERT INTO messages SELECT id, message_id, from_msisdn, to_msisdn, ts, text,"
            " created_at, seconds, nanos, folded FROM kept",
            "tombstones m1: is stored, and removed as well",
        ),
        ("UPDATE totals SET tombstone_key = NULL", "totals: the key of the tombstones is missing"),
        ("UPDATE tombstones SET digest = x'00'", "tombstones: 1 are not of 16 bytes"),
    ],
)
def test_verify_names_tombstones_that_cannot_be(
    store: Store, writer: Connection, config: Config, damage: str, named: str
) -> None:
    store(a_message())
    writer.execute("CREATE TEMP TABLE kept AS SELECT * FROM messages")
    remove_messages(writer, [1])

    writer.execute(damage)

    assert named in differences(config.database_path)


@pytest.mark.parametrize(
    ("duration", "named"),
    [
        ("90", "has no unit"),
        ("", "has no unit"),
        ("-90d", "is not a whole number above 0"),
        ("0d", "is not a whole number above 0"),
        ("1.5d", "is not a whole number above 0"),
        ("ninetyd", "is not a whole number above 0"),
        ("٣d", "is not a whole number above 0"),
        ("9999999w", "is before the year 1"),
        ("9" * 5000 + "d", "is before the year 1"),
    ],
)
def test_a_wrong_duration_is_one_line(run: Run, duration: str, named: str) -> None:
    result = run("prune", f"--older-than={duration}")

    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert named in result.stderr


def test_a_second_prune_and_a_missing_database_are_one_line(run: Run, config: Config) -> None:
    with closing(Database(config.database_path)) as database, one_at_a_time(database):
        busy = run("prune", "--older-than", "1d")
    config.database_path.unlink()
    gone = run("prune", "--older-than", "1d")

    assert busy.exit_code == gone.exit_code == 1
    assert busy.stderr == "Error: another process is removing messages\n"
    assert gone.stderr.startswith(f"Error: database {config.database_path}: No such file")


def test_ctrl_c_ends_prune_with_one_line_and_what_is_left_is_exact(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    Database(path).prepare(create=True)
    arrived(path, days_ago=2, count=3000)

    process = command(path, "prune", "--older-than", "1d")
    with closing(sqlite3.connect(path)) as db:
        while not db.execute("SELECT deletions FROM totals WHERE messages < 3000").fetchone():
            assert process.poll() is None
            time.sleep(0.002)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
        left = db.execute("SELECT count(*) FROM messages").fetchone()[0]

    assert (process.returncode, out, err) == (130, f"stopped; {3000 - left} messages removed\n", "")
    assert 0 < left < 3000
    assert differences(path) == []


def test_a_kill_leaves_each_id_either_stored_or_removed(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    Database(path).prepare(create=True)
    arrived(path, days_ago=2, count=2000)

    process = command(path, "prune", "--older-than", "1d")
    with closing(sqlite3.connect(path)) as db:
        while not db.execute("SELECT 1 FROM tombstones").fetchone():
            time.sleep(0.002)
        process.kill()
        process.communicate()
        stored = db.execute("SELECT count(*) FROM messages").fetchone()[0]
        tombstones = db.execute("SELECT count(*) FROM tombstones").fetchone()[0]

    assert stored + tombstones == 2000
    assert differences(path) == []


def test_a_removal_is_not_synced_and_what_is_stored_next_is(database: Database) -> None:
    """Otherwise deliveries would have to wait for each of these syncs."""
    arrived(database.path, days_ago=2, count=3)
    writer = Writer(database)
    done: list[str] = []

    def remove(connection: Connection) -> int:
        connection.set_trace_callback(done.append)
        return writer.remove(connection, [4], EVERYTHING)

    def level(connection: Connection) -> int:
        found: int = connection.execute("PRAGMA synchronous").fetchone()[0]
        return found

    assert writer.write(remove) == 1
    after_success = writer.write(level)
    writer.write(lambda connection: connection.execute("DROP TABLE tombstones"))
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        writer.write(lambda connection: writer.remove(connection, [5], EVERYTHING))
    after_failure = writer.write(level)
    writer.close(patience_s=1)

    assert done.index("PRAGMA synchronous = NORMAL") < done.index("COMMIT")
    assert (after_success, after_failure) == (2, 2)  # FULL


def test_rows_that_a_restore_has_exchanged_are_not_removed(database: Database) -> None:
    """The ids were found in the database before, and name other messages now."""
    arrived(database.path, days_ago=1, count=3)
    writer = Writer(database)

    removed = Remover(writer).remove([4, 5, 6], older_than(NOW - timedelta(days=2)))
    writer.close(patience_s=1)

    assert removed == 0
    with closing(sqlite3.connect(database.path)) as db:
        assert count(db) == 3


def retaining(config: Config, days: int) -> Flask:
    return an_app(replace(config, retention_days=days))


def test_the_service_removes_what_is_too_old_beside_deliveries(config: Config) -> None:
    path = config.database_path
    Database(path).prepare(create=True)
    arrived(path, days_ago=31, count=600, prefix="old")
    arrived(path, days_ago=29, count=5, prefix="new")
    app = retaining(config, days=30)
    client = app.test_client()

    def deliver(name: str) -> None:
        body = encode(a_message(message_id=name))
        assert client.post("/webhook", data=body, headers=signed(body)).status_code == 200

    deliver("first")
    with closing(sqlite3.connect(path)) as db:
        wait_until(lambda: db.execute("SELECT messages FROM totals").fetchone()[0] == 6)
        deliver("old7")
        left = {name for (name,) in db.execute("SELECT message_id FROM messages")}
    exposed = samples(client.get("/metrics").text)
    close_app(app)

    assert left == {*(f"new{n}" for n in range(5)), "first"}
    assert exposed["removed_messages_total"] == 1205  # that of `arrived` are among them
    assert differences(path) == []


def test_of_several_processes_one_removes_and_a_failure_is_tried_again(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    arrived(database.path, days_ago=2, count=100)
    writers = [Writer(database), Writer(database)]
    first, second = (Retention(database, writer, days=1, every_s=0) for writer in writers)

    first.step_if_due()
    second.step_if_due()
    with closing(sqlite3.connect(database.path)) as db:
        after_one = db.execute("SELECT messages FROM totals").fetchone()[0]
        db.execute("BEGIN IMMEDIATE")
        wait_until(lambda: first.wait_s() == 0)
        first.step_if_due()  # ends its pass
        db.rollback()
        while count(db):
            second.step_if_due()
    second.close()
    for writer in writers:
        writer.close(patience_s=1)

    assert after_one == 84
    assert "removal of old messages failed: database is locked" in caplog.text
    assert differences(database.path) == []


def count(db: sqlite3.Connection) -> int:
    stored: int = db.execute("SELECT messages FROM totals").fetchone()[0]
    return stored


def test_nothing_is_removed_unless_it_is_set(database: Database) -> None:
    writer = Writer(database)
    arrived(database.path, days_ago=40_000, count=1)

    retention = Retention(database, writer, days=0)
    retention.step_if_due()

    assert retention.wait_s() is None
    with closing(sqlite3.connect(database.path)) as db:
        assert count(db) == 1
