"""Removals: what they cost, that they are whole, and those that a worker does by itself."""

import os
import sqlite3
from contextlib import closing, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from math import isinf
from pathlib import Path

import pytest

from tests.builders import a_message, an_app, encode, samples, signed
from tests.cli.running import command
from tests.conftest import Api
from tests.serving import database_in, in_threads, serving, wait_until
from tests.store.files import arrived, count, differences, steps_of, store, stored
from webhook_api import close_app
from webhook_api.config import Config
from webhook_api.maintenance.background_tasks import BackgroundTasks, Retention
from webhook_api.maintenance.removal import Remover
from webhook_api.store.database import Database
from webhook_api.store.indexing import index_messages
from webhook_api.store.lock import LockedConnection
from webhook_api.store.messages import EVERYTHING, Selection, older_than, remove_messages
from webhook_api.store.writer import Writer


def steps_to_remove(db: LockedConnection, row_id: int) -> int:
    return steps_of(db, lambda: remove_messages(db, [row_id]))


def test_a_removal_costs_the_same_however_many_messages_there_are(api: Api) -> None:
    # Each in periods of its own.
    days = [a_message(message_id=f"m{n}", ts=f"{2000 + n}-01-15T10:00:00Z") for n in range(900)]
    api.store(*days[:10])
    of_few = steps_to_remove(api.writer, 1)
    api.store(*days[10:])

    assert steps_to_remove(api.writer, 2) < 1.2 * of_few


def test_a_removal_does_not_look_at_every_character_that_there_is(api: Api) -> None:
    chinese = [chr(0x4E00 + n) for n in range(8000)]
    api.store(
        a_message(message_id="short", text="".join(chinese[:20]) + "Aa"),
        a_message(message_id="long", text="".join(chinese[:4000])),
        a_message(message_id="same", text="".join(chinese[10:30])),
    )
    while index_messages(api.writer, max_rows=10):
        pass
    with_4000 = steps_to_remove(api.writer, 1)
    api.store(a_message(message_id="other", text="".join(chinese[4000:8000])))
    while index_messages(api.writer, max_rows=10):
        pass

    assert steps_to_remove(api.writer, 3) < 1.2 * with_4000
    assert with_4000 < 4000
    remove_messages(api.writer, [2])  # a text with half of all characters
    assert differences(api.path) == []


def test_a_removal_that_fails_leaves_the_message_and_no_tombstone(api: Api) -> None:
    api.store(a_message())
    api.writer.execute(
        "CREATE TEMP TRIGGER refuse AFTER DELETE ON messages"
        " BEGIN SELECT raise(ABORT, 'refused'); END"
    )

    with pytest.raises(sqlite3.IntegrityError, match="refused"):
        remove_messages(api.writer, [1])

    assert api.rows("SELECT count(*) FROM messages") == [(1,)]
    assert api.rows("SELECT count(*) FROM tombstones") == [(0,)]


def test_a_removal_is_not_synced_and_what_is_stored_next_is(database: Database) -> None:
    """Otherwise deliveries would have to wait for each of these syncs."""
    arrived(database.path, days_ago=2, count=3)
    writer = Writer(database)
    done: list[str] = []

    def remove(connection: LockedConnection) -> int:
        connection.set_trace_callback(done.append)
        return writer.remove(connection, [4], EVERYTHING)

    def level(connection: LockedConnection) -> int:
        found: int = connection.execute("PRAGMA synchronous").fetchone()[0]
        return found

    assert writer.write(remove) == 1
    after_success = writer.write(level)
    nonsense = Selection("nonsense = 1", [])
    with pytest.raises(sqlite3.OperationalError, match="no such column"):
        writer.write(lambda connection: writer.remove(connection, [5], nonsense))
    after_failure = writer.write(level)
    writer.close(timeout_s=1)

    assert done.index("PRAGMA synchronous = NORMAL") < done.index("COMMIT")
    assert (after_success, after_failure) == (2, 2)  # FULL


def test_rows_that_a_restore_has_exchanged_are_not_removed(database: Database) -> None:
    """The ids were found in the database before, and name other messages now."""
    arrived(database.path, days_ago=1, count=3)
    writer = Writer(database)
    remover = Remover(writer)

    remover.remove([4, 5, 6], older_than(datetime.now(UTC) - timedelta(days=2)))
    writer.close(timeout_s=1)

    assert remover.removed == 0
    with closing(sqlite3.connect(database.path)) as db:
        assert count(db) == 3


def test_the_service_removes_what_is_too_old_beside_deliveries(config: Config) -> None:
    path = config.database_path
    Database(path).prepare(create=True)
    arrived(path, days_ago=31, count=600, prefix="old")
    arrived(path, days_ago=29, count=5, prefix="new")
    app = an_app(replace(config, retention_days=30))
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


def one_pass(retention: Retention) -> None:
    """Let it do all steps of a pass; the next pass has to be far away."""

    def ended() -> bool:
        retention.step_if_due()
        return retention.wait_s() > 500

    wait_until(ended)


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
        writer.close(timeout_s=1)

    assert after_one == 84
    assert "removal of old messages failed: database is locked" in caplog.text
    assert differences(database.path) == []


@pytest.mark.parametrize(("days", "left"), [(0, 610), (1, 605)])
def test_messages_from_the_future_do_not_keep_older_ones_and_none_goes_unless_it_is_set(
    database: Database, days: int, left: int
) -> None:
    """Those were stored while the clock of the server was wrong."""
    arrived(database.path, days_ago=-1000, count=600, prefix="future")
    arrived(database.path, days_ago=40_000, count=5, prefix="old")
    arrived(database.path, days_ago=0.5, count=5, prefix="new")
    writer = Writer(database)
    retention = Retention(database, writer, days=days, every_s=1000)

    one_pass(retention)
    writer.close(timeout_s=1)

    names = stored(database.path)
    assert len(names) == left
    assert any(name.startswith("old") for name in names) is (days == 0)
    assert isinf(retention.wait_s()) is (days == 0)


NUMBER = "+4915112345678"


def deleted_but_open(database: Path, *pids: int) -> list[str]:
    """The files of the database that are deleted, and that one of these processes has open."""
    files = []
    for descriptor in (each for pid in pids for each in Path(f"/proc/{pid}/fd").iterdir()):
        with suppress(FileNotFoundError):  # it was just closed
            files.append(str(descriptor.readlink()))
    return [file for file in files if file.startswith(str(database)) and file.endswith("(deleted)")]


@pytest.mark.parametrize("delivers", [True, False], ids=["that wrote", "that only read"])
def test_idle_workers_let_go_of_a_file_that_was_replaced(tmp_path: Path, delivers: bool) -> None:
    Database(database_in(tmp_path)).prepare(create=True)
    store(database_in(tmp_path), "x", sender=NUMBER)

    with serving(tmp_path) as server:

        def read() -> None:
            server.get("/messages")

        if delivers:
            server.deliver_all(map(str, range(50)))
        in_threads(8, read)
        forget = command(server.database, "forget", NUMBER)
        printed, _ = forget.communicate(timeout=60)
        processes = [server.process.pid, *server.workers]
        wait_until(lambda: not deleted_but_open(server.database, *processes))
        after = server.get("/messages?limit=1").json["total"]

    assert printed.startswith("1 messages removed")
    assert after == (50 if delivers else 0)


def test_a_file_that_was_lost_stays_open(database: Database) -> None:
    writer = Writer(database)
    tasks = BackgroundTasks(database, writer, retention_days=0, poll_every_s=0)
    with database.reader():
        pass
    tasks.run_due_tasks()

    database.path.unlink()
    tasks.run_due_tasks()

    assert f"{database.path} (deleted)" in deleted_but_open(database.path, os.getpid())
    writer.close(timeout_s=0)


def test_old_messages_are_removed_even_if_no_request_comes(tmp_path: Path) -> None:
    Database(database_in(tmp_path)).prepare(create=True)
    arrived(database_in(tmp_path), days_ago=2, count=100)

    with serving(tmp_path, RETENTION_DAYS="1") as server:
        wait_until(lambda: server.query("SELECT messages FROM totals") == [(0,)])
