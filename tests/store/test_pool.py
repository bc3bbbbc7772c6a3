"""The pool: to use a connection from two threads, or after its release, is an error."""

import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.serving import in_threads, wait_until
from tests.store.files import ENDLESS
from webhook_api.store.connections import Connection, MisuseError
from webhook_api.store.database import Database


def test_a_reader_is_used_by_one_at_a_time_used_again_and_released_once(
    database: Database,
) -> None:
    reader = database.acquire_reader()
    database.release_reader(reader)

    with pytest.raises(MisuseError, match="not acquired"):
        database.release_reader(reader)

    first, second = database.acquire_reader(), database.acquire_reader()
    assert first is reader is not second
    database.release_reader(first)
    database.release_reader(second)


def test_of_many_returns_at_once_one_counts(database: Database) -> None:
    refused: list[MisuseError] = []

    def give_back() -> None:
        try:
            database.release_reader(reader)
        except MisuseError as error:
            refused.append(error)

    for _ in range(20):
        reader = database.acquire_reader()
        in_threads(4, give_back)

    assert len(refused) == 20 * 3


def test_a_reader_that_is_not_reusable_is_closed(database: Database) -> None:
    reader = database.acquire_reader()

    database.release_reader(reader, reusable=False)

    with pytest.raises(sqlite3.ProgrammingError):
        reader.execute("SELECT 1")
    with database.reader() as other:
        assert other is not reader


USES: dict[str, Callable[[Connection, sqlite3.Cursor], object]] = {
    "execute": lambda reader, _cursor: reader.execute("SELECT 1"),
    "cursor": lambda reader, _cursor: reader.cursor().execute("SELECT 1"),
    "fetchone": lambda _reader, cursor: cursor.fetchone(),
    "fetchall": lambda _reader, cursor: cursor.fetchall(),
    "fetchmany": lambda _reader, cursor: cursor.fetchmany(),
    "next": lambda _reader, cursor: next(cursor),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_use_after_its_return_fails(
    database: Database, use: Callable[[Connection, sqlite3.Cursor], object]
) -> None:
    with database.reader() as reader:
        cursor = reader.execute("SELECT 1")

    with pytest.raises(MisuseError, match="after its release"):
        use(reader, cursor)


def test_use_by_two_threads_at_once_fails(database: Database) -> None:
    def read_until_interrupted(reader: Connection) -> None:
        with pytest.raises(sqlite3.OperationalError, match="interrupted"):
            reader.execute(ENDLESS)

    with database.reader() as reader:
        busy = threading.Thread(target=read_until_interrupted, args=[reader])
        busy.start()

        def is_refused() -> bool:
            try:
                reader.execute("SELECT 1").fetchone()
            except MisuseError as error:
                return "two threads" in str(error)
            return False

        wait_until(is_refused)
        while busy.is_alive():
            reader.interrupt()
            busy.join(0.01)


def test_a_checked_reader_reads_as_any_other(database: Database) -> None:
    with database.reader() as reader:
        rows = list(reader.execute("SELECT 1 UNION SELECT 2"))

        assert rows == reader.execute("VALUES (1), (2)").fetchall() == [(1,), (2,)]
        assert reader.execute("SELECT 1").fetchmany(5) == [(1,)]
        assert reader.execute("SELECT ?", [3]).fetchone() == (3,)


def test_without_the_switch_nothing_is_checked(database: Database, tmp_path: Path) -> None:
    with closing(Database(tmp_path / "app.db")) as unchecked, unchecked.reader() as reader:
        assert type(reader) is Connection
        assert type(reader.cursor()) is sqlite3.Cursor
