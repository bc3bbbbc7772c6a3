"""Group commit: the WAL stays short, and what is stored is indexed soon."""

import logging
import threading
from typing import Any

import pytest

from tests.intake.commits import Record, group, message, store_one
from tests.serving import wait_until
from webhook_api.errors import Unavailable
from webhook_api.store import writer as writers
from webhook_api.store.database import Database
from webhook_api.store.indexing import index_messages
from webhook_api.store.writer import Writer


def test_the_wal_stays_short_when_each_message_has_its_own_commit(
    database: Database, record: Record
) -> None:
    commits = group(database, record, writer=Writer(database, checkpoint_every=120))
    sizes = []
    for number in range(60):
        store_one(commits, message(message_id=f"m{number}", sender=f"+{number}"))
        sizes.append(database.sizes()["wal"])

    # Some 9 pages of 4120 bytes are written by each, 540 by all of them.
    assert max(sizes) < 200 * 4120


def test_a_wal_that_grew_during_a_long_read_is_made_shorter_again(
    database: Database, record: Record
) -> None:
    writer = Writer(database, checkpoint_every=120, max_idle_wal_bytes=400_000)
    commits = group(database, record, writer=writer)
    with database.reader() as reader:
        reader.execute("BEGIN")
        before = reader.execute("SELECT count(*) FROM messages").fetchone()
        for number in range(60):
            store_one(commits, message(message_id=f"m{number}"))
        grown = database.sizes()["wal"]
        after = reader.execute("SELECT count(*) FROM messages").fetchone()
        reader.execute("ROLLBACK")

    for number in range(60, 90):
        store_one(commits, message(message_id=f"m{number}"))

    assert before == after == (0,)
    assert grown > 1_000_000
    assert database.sizes()["wal"] <= 600_000
    commits.close()


def test_messages_are_indexed_soon_after_they_are_stored(
    database: Database, record: Record
) -> None:
    commits = group(database, record, writer=Writer(database, index_every=10))

    for number in range(10):
        store_one(commits, message(message_id=f"m{number}"))

    def indexed() -> int:
        with database.reader() as reader:
            return int(reader.execute("SELECT indexed FROM totals").fetchone()[0])

    wait_until(lambda: indexed() == 10)


def test_no_delivery_hears_of_an_upkeep_that_fails(
    database: Database,
    record: Record,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    writer = Writer(database, index_every=1)
    commits = group(database, record, writer=writer)
    answers: list[Any] = []
    waiting = threading.Thread(
        target=lambda: answers.append(store_one(commits, message(message_id="m2")))
    )

    def fail(*_arguments: object, **_settings: object) -> None:
        waiting.start()
        wait_until(lambda: record.pending == 1)
        raise Unavailable("database: the disk is full")

    monkeypatch.setattr(writers, "index_messages", fail)
    with caplog.at_level(logging.WARNING):
        store_one(commits, message(message_id="m1"))
        wait_until(lambda: waiting.ident is not None)
        waiting.join(10)

    assert [answer.created for answer in answers] == [True]
    assert "upkeep of the database failed: database: the disk is full" in caplog.text
    assert not writer.index_or_checkpoint_is_due  # for some seconds


def test_long_texts_are_indexed_in_steps_between_which_deliveries_are_stored(
    database: Database, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[int] = []

    def count_steps(*arguments: Any, **settings: Any) -> int:
        rows = index_messages(*arguments, **settings)
        steps.append(rows)
        return rows

    monkeypatch.setattr(writers, "index_messages", count_steps)
    commits = group(database, record, writer=Writer(database, index_every=20))
    for number in range(20):
        text = "".join(chr(0x4E00 + (number * 4096 + place) % 20_000) for place in range(4096))
        store_one(commits, message(message_id=f"m{number}", text=text))

    wait_until(lambda: len(steps) == 1)
    for number in range(20, 36):
        store_one(commits, message(message_id=f"m{number}", text="short"))

    wait_until(lambda: sum(steps) == 36)
    assert steps == [8, 8, 20]
