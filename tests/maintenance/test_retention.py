"""RETENTION_DAYS: the service removes old messages by itself."""

import sqlite3
from contextlib import closing
from dataclasses import replace

import pytest

from tests.builders import a_message, an_app, encode, samples, signed
from tests.serving import wait_until
from tests.store.files import arrived, count, differences, stored
from webhook_api import close_app
from webhook_api.config import Config
from webhook_api.maintenance.background_tasks import Retention
from webhook_api.store.database import Database
from webhook_api.store.writer import Writer


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

    retention.step_if_due()
    while (wait_s := retention.wait_s()) is not None and wait_s < 1:
        retention.step_if_due()
    writer.close(timeout_s=1)

    names = stored(database.path)
    assert len(names) == left
    assert any(name.startswith("old") for name in names) is (days == 0)
    assert (wait_s is None) is (days == 0)
