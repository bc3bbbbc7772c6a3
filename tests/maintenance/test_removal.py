"""Removals: what they cost, and that they fail as a whole or take what was asked for."""

import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest

from tests.builders import a_message
from tests.conftest import Api
from tests.store.files import arrived, count, differences, steps_of
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
