"""Remembered counts: they are exact even if the file was replaced meanwhile."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.builders import a_message, some_messages
from tests.conftest import Get, Store
from webhook_api.config import Config
from webhook_api.reading.counts import CountCache
from webhook_api.store.connections import Connection
from webhook_api.store.indexing import index_messages
from webhook_api.store.lock import LockedConnection


@pytest.fixture
def backup(writer: LockedConnection, tmp_path: Path) -> Iterator[Connection]:
    """A copy of the live file, as it is when the test starts to use `take`."""
    with closing(sqlite3.connect(tmp_path / "backup.db", factory=Connection)) as copy:
        yield copy


def found(get: Get, **parameters: object) -> tuple[int, int]:
    """Return the total of a search, and how many rows its page has."""
    reply = get("/messages", limit=100, **parameters)
    return reply["total"], len(reply["data"])


def test_ids_that_are_used_again_after_a_restore_are_counted_again(
    store: Store, get: Get, writer: LockedConnection, backup: Connection
) -> None:
    writer.backup(backup)  # of the empty table
    store(*some_messages(5))
    assert found(get, q="hello") == (5, 5)

    backup.backup(writer)
    assert found(get, q="hello") == (0, 0)
    store(*[a_message(message_id=f"new{n}", text="Hello" if n else "other") for n in range(5)])

    assert found(get, q="hello") == (4, 4)
    store(*[a_message(message_id=f"more{n}") for n in range(5)])
    assert found(get, q="hello") == (9, 9)


def test_the_same_number_of_other_removals_after_a_restore_is_noticed(
    store: Store, get: Get, writer: LockedConnection, backup: Connection
) -> None:
    store(*some_messages(4), a_message(message_id="x", text="Hello to all"))
    writer.backup(backup)
    writer.execute("DELETE FROM messages WHERE message_id = 'm0001'")
    assert found(get, q="to all") == (1, 1)

    backup.backup(writer)
    writer.execute("DELETE FROM messages WHERE message_id = 'x'")
    store(a_message(message_id="y", text="nothing"))

    assert found(get, q="to all") == (0, 0)
    assert found(get, q="hello") == (4, 4)


@pytest.mark.parametrize("q", ["hello", "he", "h"])
def test_what_was_counted_before_is_not_counted_twice(
    store: Store, get: Get, writer: LockedConnection, q: str
) -> None:
    for n in range(0, 40, 10):
        store(*some_messages(40)[n : n + 10])
        assert found(get, q=q) == (n + 10, n + 10)
        index_messages(writer, max_rows=7)
        assert found(get, q=q) == (n + 10, n + 10)


def test_each_application_has_its_own_counts(
    store: Store, get: Get, writer: LockedConnection, config: Config
) -> None:
    store(*some_messages(3))
    cache, other = CountCache(), CountCache()

    def count(cache: CountCache) -> int:
        return cache.count("key", writer, lambda row_id: 3 - row_id)

    assert [count(cache), count(cache), count(other)] == [3, 3, 3]


def test_a_snapshot_that_is_older_than_a_count_is_counted_from_the_start(
    store: Store, writer: LockedConnection
) -> None:
    cache, asked = CountCache(), []

    def count() -> int:
        def count_after(row_id: int) -> int:
            asked.append(row_id)
            rows: int = writer.execute(
                "SELECT count(*) FROM messages WHERE id > ?", [row_id]
            ).fetchone()[0]
            return rows

        return cache.count("key", writer, count_after)

    store(*some_messages(10))
    totals = [count(), count()]
    writer.execute("BEGIN")
    writer.execute("DELETE FROM messages WHERE id > 7")
    totals.append(count())
    writer.execute("ROLLBACK")
    totals.append(count())

    assert totals == [10, 10, 7, 10]
    assert asked == [0, 10, 0, 0]


def test_a_full_cache_drops_the_count_that_is_unused_longest(
    store: Store, writer: LockedConnection
) -> None:
    store(*some_messages(5))
    cache, asked = CountCache(size=2), []

    def count_after(row_id: int) -> int:
        asked.append(row_id)
        return 0

    for key in ["a", "b", "a", "c", "a", "b"]:
        cache.count(key, writer, count_after)

    assert asked == [0, 0, 5, 0, 5, 0]
