"""The writer: which file it writes, and what it does after a failed write or sync."""

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from tests.builders import a_message
from tests.store.files import count, failing
from webhook_api.errors import Unavailable
from webhook_api.maintenance.backup import back_up
from webhook_api.maintenance.compaction import compact
from webhook_api.maintenance.removal import Remover
from webhook_api.models import parse_message
from webhook_api.store.database import Database
from webhook_api.store.messages import EVERYTHING, of_number
from webhook_api.store.writer import Writer


@pytest.fixture
def new_writer(database: Database) -> Iterator[Callable[[], Writer]]:
    """Make a writer like that of another process."""
    with ExitStack() as writers:

        def make() -> Writer:
            writer = Writer(database)
            writers.callback(writer.discard)
            return writer

        yield make


@pytest.fixture
def writer(database: Database) -> Iterator[Writer]:
    writer = Writer(database)
    yield writer
    writer.close(timeout_s=1)


def store(writer: Writer, message_id: str) -> None:
    messages = [parse_message(a_message(message_id=message_id))]
    writer.write(lambda connection: writer.store(connection, messages))


def wal(database: Database) -> Path:
    return database.path.with_name("app.db-wal")


def test_the_writer_follows_the_path_to_a_file_that_was_put_there(
    database: Database, writer: Writer, tmp_path: Path
) -> None:
    store(writer, "m1")
    writer.close(timeout_s=1)
    shutil.copy(database.path, tmp_path / "backup.db")
    store(writer, "m2")
    (tmp_path / "backup.db").replace(database.path)
    wal(database).unlink()

    store(writer, "m3")

    with database.reader() as reader:
        rows = reader.execute("SELECT message_id FROM messages ORDER BY id").fetchall()
    assert rows == [("m1",), ("m3",)]


def test_the_writer_refuses_a_missing_file_and_one_that_is_not_a_database(
    database: Database, writer: Writer
) -> None:
    store(writer, "m1")
    content = database.path.read_bytes()

    database.path.write_bytes(b"garbage" * 1000)
    with pytest.raises(Unavailable, match="not a database"):
        store(writer, "m2")
    database.path.write_bytes(content)
    store(writer, "m3")
    database.path.rename(database.path.with_name("away"))
    with pytest.raises(Unavailable, match="No such file"):
        store(writer, "m4")

    assert not database.path.exists()


def test_a_connection_that_closes_last_leaves_the_wal_alone(
    database: Database, writer: Writer
) -> None:
    store(writer, "m1")
    content = wal(database).read_bytes()

    with database.write_lock():
        writer.discard()
    database.close()
    with database.reader() as reader:
        assert count(reader) == 1
    database.close()

    assert len(content) > 0
    assert wal(database).read_bytes() == content


@pytest.mark.parametrize("leaves", [True, False], ids=["litestream", "service"])
def test_only_without_litestream_the_wal_is_moved_into_the_file(
    database: Database, leaves: bool, tmp_path: Path
) -> None:
    database = Database(database.path, leaves_checkpoints=leaves)
    writer = Writer(database, index_every=1, checkpoint_every=1)
    with database.path.open("rb") as file, closing(database):
        before = file.read()
        store(writer, "m0")
        writer.write(writer.index_and_checkpoint)
        Remover(writer).remove([1], EVERYTHING)
        store(writer, "m1")
        back_up(database, tmp_path / "b.db")
        writer.close(timeout_s=1)
        compact(database, of_number("+1"))

        file.seek(0)
        assert (file.read() == before) is leaves


def test_after_an_io_error_no_process_writes_until_the_wal_is_written_again(
    database: Database,
    writer: Writer,
    new_writer: Callable[[], Writer],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store(writer, "m1")
    other_process = new_writer()
    store(other_process, "m2")
    with pytest.raises(sqlite3.OperationalError, match="of a test"):
        writer.write(failing(sqlite3.SQLITE_IOERR_FSYNC))
    with database.write_lock() as lock:
        assert lock.wal_suspect  # which outlives the process

    with monkeypatch.context() as patched:
        patched.setattr(os, "fdatasync", lambda _file: os.close(-1))  # an OSError
        for each in (writer, other_process):
            with pytest.raises(OSError, match="Bad file descriptor"):
                each.write(lambda _connection: None)

    store(other_process, "m3")
    with database.write_lock() as lock:
        assert not lock.wal_suspect
    store(writer, "m4")
    other_process.close(timeout_s=1)
    with database.reader() as reader:
        assert count(reader) == 4


def test_a_writer_syncs_what_another_wrote_before_it_was_killed(
    database: Database, new_writer: Callable[[], Writer], monkeypatch: pytest.MonkeyPatch
) -> None:
    store(new_writer(), "m1")
    synced = []
    monkeypatch.setattr(os, "fdatasync", lambda file: synced.append(file.name))

    store(new_writer(), "m2")

    assert synced == [str(wal(database))]
