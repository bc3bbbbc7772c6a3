"""Counters and remembered counts: exact after whatever was stored, removed or replaced."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.builders import a_message, some_messages
from tests.conftest import Api
from tests.routes.pages import names
from webhook_api.reading.conditions import CountCache
from webhook_api.store.connections import Connection
from webhook_api.store.indexing import index_messages


def test_an_id_is_never_used_twice(api: Api) -> None:
    api.store(a_message(message_id="a"))
    (first,) = api.writer.execute("SELECT id FROM messages").fetchone()

    api.writer.execute("DELETE FROM messages")
    api.store(a_message(message_id="a"))

    assert api.writer.execute("SELECT id FROM messages").fetchone() > (first,)


def test_vacuum_keeps_the_index_on_its_rows(api: Api) -> None:
    api.store(*some_messages(5), a_message(message_id="x", text="needle"))
    index_messages(api.writer, max_rows=10)
    api.writer.execute("DELETE FROM messages WHERE message_id < 'm0003'")

    api.writer.execute("VACUUM")

    assert names(api.get("/messages", q="needle")) == ["x"]


@pytest.fixture
def backup(api: Api, tmp_path: Path) -> Iterator[Connection]:
    """A copy of the live file, as it is when the test starts to use `take`."""
    with closing(sqlite3.connect(tmp_path / "backup.db", factory=Connection)) as copy:
        yield copy


def found(get: Callable[..., Any], **parameters: object) -> tuple[int, int]:
    """Return the total of a search, and how many rows its page has."""
    reply = get("/messages", limit=100, **parameters)
    return reply["total"], len(reply["data"])


def test_ids_that_are_used_again_after_a_restore_are_counted_again(
    api: Api, backup: Connection
) -> None:
    api.writer.backup(backup)  # of the empty table
    api.store(*some_messages(5))
    assert found(api.get, q="hello") == (5, 5)

    backup.backup(api.writer)
    assert found(api.get, q="hello") == (0, 0)
    api.store(*[a_message(message_id=f"new{n}", text="Hello" if n else "other") for n in range(5)])

    assert found(api.get, q="hello") == (4, 4)
    api.store(*[a_message(message_id=f"more{n}") for n in range(5)])
    assert found(api.get, q="hello") == (9, 9)


def test_the_same_number_of_other_removals_after_a_restore_is_noticed(
    api: Api, backup: Connection
) -> None:
    api.store(*some_messages(4), a_message(message_id="x", text="Hello to all"))
    api.writer.backup(backup)
    api.writer.execute("DELETE FROM messages WHERE message_id = 'm0001'")
    assert found(api.get, q="to all") == (1, 1)

    backup.backup(api.writer)
    api.writer.execute("DELETE FROM messages WHERE message_id = 'x'")
    api.store(a_message(message_id="y", text="nothing"))

    assert found(api.get, q="to all") == (0, 0)
    assert found(api.get, q="hello") == (4, 4)


@pytest.mark.parametrize("q", ["hello", "he", "h"])
def test_what_was_counted_before_is_not_counted_twice(api: Api, q: str) -> None:
    for n in range(0, 40, 10):
        api.store(*some_messages(40)[n : n + 10])
        assert found(api.get, q=q) == (n + 10, n + 10)
        index_messages(api.writer, max_rows=7)
        assert found(api.get, q=q) == (n + 10, n + 10)


def test_a_snapshot_that_is_older_than_a_count_is_counted_from_the_start(api: Api) -> None:
    cache, asked = CountCache(), []

    def count() -> int:
        def count_after(row_id: int) -> int:
            asked.append(row_id)
            rows: int = api.writer.execute(
                "SELECT count(*) FROM messages WHERE id > ?", [row_id]
            ).fetchone()[0]
            return rows

        return cache.count("key", api.writer, count_after)

    api.store(*some_messages(10))
    totals = [count(), count()]
    api.writer.execute("BEGIN")
    api.writer.execute("DELETE FROM messages WHERE id > 7")
    totals.append(count())
    api.writer.execute("ROLLBACK")
    totals.append(count())

    assert totals == [10, 10, 7, 10]
    assert asked == [0, 10, 0, 0]


def test_a_full_cache_drops_the_count_that_is_unused_longest(api: Api) -> None:
    api.store(*some_messages(5))
    cache, asked = CountCache(size=2), []

    def count_after(row_id: int) -> int:
        asked.append(row_id)
        return 0

    for key in ["a", "b", "a", "c", "a", "b"]:
        cache.count(key, api.writer, count_after)

    assert asked == [0, 0, 5, 0, 5, 0]
