"""A full disk: the write-ahead log never takes the space of the checkpoint that shortens it."""

from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.builders import a_message
from tests.store.files import count
from webhook_api.errors import Unavailable
from webhook_api.models import InboundMessage, parse_message
from webhook_api.store.database import Database
from webhook_api.store.lock import read_transaction
from webhook_api.store.messages import EVERYTHING
from webhook_api.store.writer import Writer, pages_to_index

DISK_BYTES = 8 * 1024 * 1024
BATCH = 32


@pytest.fixture(autouse=True)
def small_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the database believe that there is space for its own files only."""

    def free_bytes(database: Database) -> int:
        used = 512 * database.path.stat().st_blocks + database.wal_bytes()
        return max(0, DISK_BYTES - used)

    monkeypatch.setattr(Database, "free_bytes", free_bytes)


@pytest.fixture
def writer(database: Database) -> Iterator[Writer]:
    writer = Writer(database)
    yield writer
    writer.discard()


def messages(number: int) -> list[InboundMessage]:
    return [
        parse_message(a_message(message_id=f"m{number}-{place}", text=f"{place} x" * 300))
        for place in range(BATCH)
    ]


def store(writer: Writer, number: int) -> None:
    writer.write(lambda connection: writer.store(connection, messages(number)))


def fill(writer: Writer) -> int:
    """Store until the disk is full; return how many batches fitted."""
    stored = 0
    with pytest.raises(Unavailable, match="the disk is full"):  # noqa: PT012
        while stored < 1000:
            store(writer, stored)
            stored += 1
    return stored


def bytes_of_both(database: Database) -> int:
    return sum(database.sizes().values())


def test_a_log_that_a_read_made_long_leaves_space_to_be_moved_after_the_read(
    database: Database, writer: Writer
) -> None:
    with database.reader() as reader, read_transaction(reader):
        reader.execute("SELECT * FROM messages").fetchall()
        stored = fill(writer)
        assert database.sizes()["wal"] > DISK_BYTES / 4

    store(writer, stored)

    assert bytes_of_both(database) <= DISK_BYTES
    with database.reader() as reader:
        assert count(reader) == BATCH * (stored + 1)


def test_an_incomplete_checkpoint_leaves_holes_that_are_space_to_keep(
    database: Database, writer: Writer
) -> None:
    for number in range(5):
        store(writer, 1000 + number)
    with database.reader() as reader, read_transaction(reader):
        reader.execute("SELECT * FROM messages").fetchall()
        for number in range(5):
            store(writer, 2000 + number)
        writer.write(lambda connection: connection.execute("PRAGMA wal_checkpoint").fetchall())
        stored = fill(writer)

    store(writer, stored)

    assert bytes_of_both(database) <= DISK_BYTES


def test_with_litestream_the_space_of_its_checkpoint_is_kept_as_well(database: Database) -> None:
    database.leaves_checkpoints = True
    writer = Writer(database)

    fill(writer)

    assert database.sizes()["wal"] > DISK_BYTES / 4  # nobody has moved it
    writer.write(lambda connection: connection.execute("PRAGMA wal_checkpoint").fetchall())
    assert bytes_of_both(database) <= DISK_BYTES
    writer.discard()


def test_removing_and_indexing_keep_that_space_too(database: Database, writer: Writer) -> None:
    fill(writer)

    with suppress(Unavailable):
        while writer.index_or_checkpoint_is_due:
            writer.write(writer.index_and_checkpoint)
    assert bytes_of_both(database) <= DISK_BYTES
    with pytest.raises(Unavailable, match="full"):
        writer.write(lambda connection: writer.remove(connection, [1], EVERYTHING))


def test_where_space_is_short_the_index_is_made_in_smaller_steps(
    database: Database, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(writer, 0)
    little = 2 * 4096 * pages_to_index(4096) + 300 * 1024
    monkeypatch.setattr(Database, "free_bytes", lambda database: little + database.wal_bytes())
    indexed = []

    next_process = Writer(database, index_every=1)
    next_process.write(lambda _connection: None)
    while next_process.index_or_checkpoint_is_due:
        next_process.write(next_process.index_and_checkpoint)
        with database.reader() as reader:
            indexed += reader.execute("SELECT indexed FROM totals").fetchone()
    next_process.discard()

    assert len(indexed) > 5
    assert indexed[-1] == BATCH
