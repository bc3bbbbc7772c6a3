"""Group commit: the WAL stays short, and what is stored is indexed soon."""

from tests.intake.commits import Record, group, message, store_one
from tests.serving import wait_until
from webhook_api.store.database import Database
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
