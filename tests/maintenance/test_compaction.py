"""A database is copied without what was removed, and what comes meanwhile is not lost."""

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from tests.store.files import (
    NOW,
    NUMBER,
    SECRETS,
    TEXT,
    arrived,
    differences,
    removed,
    store,
    stored,
)
from webhook_api.maintenance.compaction import compact
from webhook_api.models import FeedPosition, FeedQuery
from webhook_api.reading.feed import read_feed
from webhook_api.store.connections import connect
from webhook_api.store.copies import Progress
from webhook_api.store.database import Database
from webhook_api.store.lock import unshared
from webhook_api.store.messages import of_number, older_than, remove_messages
from webhook_api.store.positions import PositionLost, create_consumer, list_consumers, move_consumer


def once_meanwhile(act: Callable[[], None]) -> Progress:
    """Do something in the midst of a compaction, when the database was copied."""
    waiting = [act]

    def progress(done: int, _of: int) -> None:
        if done > 100 and waiting:
            waiting.pop()()

    return progress


@pytest.mark.parametrize("few", [0, 200], ids=["before the lock", "under the lock"])
def test_what_is_stored_meanwhile_is_in_the_new_file(database: Database, few: int) -> None:
    path = database.path
    store(path, "a", "b", "c", text="Hello ☃")
    store(path, "x", sender=NUMBER, text=TEXT)

    def arrive() -> None:
        store(path, "d", "e", "d")
        store(path, "y", "z", to=NUMBER, text=TEXT)

    done = compact(database, of_number(NUMBER), once_meanwhile(arrive), few=few)

    assert done.removed == 3
    assert stored(path) == {"a", "b", "c", "d", "e"}
    assert removed(path, "x", "y", "z", "a") == {"x", "y", "z"}
    assert [secret for secret in SECRETS[:3] if secret in path.read_bytes()] == []
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT deletions FROM totals").fetchone() == (3,)
        (last,) = db.execute("SELECT seq FROM sqlite_sequence").fetchone()
    store(path, "later")
    with closing(sqlite3.connect(path)) as db:
        newest = db.execute("SELECT max(id) FROM messages WHERE message_id = 'later'").fetchone()
    assert newest == (last + 1,) > (8,)  # ids of removed messages are not used again
    assert differences(path) == []


def test_positions_and_consumers_outlive_it_and_missed_is_exact(database: Database) -> None:
    path = database.path
    arrived(path, days_ago=3, count=6)
    with closing(unshared(connect(path, "rw", timeout_s=5))) as db:
        positions = [
            FeedPosition.parse(one["position"])
            for one in read_feed(db, FeedQuery(), "start", 100).messages
        ]
        for name in ("a", "b"):
            create_consumer(db, name, "start")

    def read_on() -> None:
        with closing(unshared(connect(path, "rw", timeout_s=5))) as db:
            move_consumer(db, "a", positions[3])
        store(path, "new")

    done = compact(database, older_than(NOW - timedelta(days=1)), once_meanwhile(read_on))

    assert done.removed == 6
    with closing(connect(path, "ro", timeout_s=5)) as reader:
        assert [one.missed for one in list_consumers(reader)] == [2, 6]
        (message,) = read_feed(reader, FeedQuery(), positions[5], 100).messages
        assert message["message_id"] == "new"
        with pytest.raises(PositionLost):
            read_feed(reader, FeedQuery(), positions[4], 100)
    store(path, "x", sender=NUMBER)
    with closing(connect(path, "ro", timeout_s=5)) as reader:
        last = read_feed(reader, FeedQuery(), "now", 100).position
    compact(database, of_number(NUMBER))
    with closing(connect(path, "ro", timeout_s=5)) as reader:
        assert read_feed(reader, FeedQuery(), last, 100) == ([], last, False)
        assert [one.missed for one in list_consumers(reader)] == [2, 6]
    assert differences(path) == []


def _remove_one(path: Path) -> None:
    with closing(unshared(connect(path, "rw", timeout_s=5))) as db:
        remove_messages(db, [1])


def _exchange(path: Path) -> None:
    shutil.copyfile(path, path.with_name("other.db"))
    path.with_name("other.db").replace(path)


@pytest.mark.parametrize("act", [_remove_one, _exchange])
def test_what_was_removed_or_exchanged_meanwhile_does_not_come_back(
    database: Database, act: Callable[[Path], None]
) -> None:
    path = database.path
    store(path, "a", "b")
    if act is _exchange:
        with closing(connect(path, "rw", timeout_s=5)) as db:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    with pytest.raises(BlockingIOError, match="something else"):
        compact(database, of_number(NUMBER), once_meanwhile(lambda: act(path)))

    assert stored(path) == ({"b"} if act is _remove_one else {"a", "b"})
    assert differences(path) == []


def test_a_long_read_goes_on_and_nobody_waits_for_it(database: Database) -> None:
    store(database.path, "a", "b", text="Hello")
    store(database.path, "x", sender=NUMBER)
    with database.reader() as reader:
        reader.execute("BEGIN")
        rows = reader.execute("SELECT message_id FROM messages ORDER BY id")
        first = rows.fetchone()

        compact(database, of_number(NUMBER))

        assert [first, *rows] == [("a",), ("b",), ("x",)]
    assert stored(database.path) == {"a", "b"}


_READ_ON = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("BEGIN")
db.execute("SELECT count(*) FROM messages").fetchone()
print("reading", flush=True)
sys.stdin.read()
"""


def test_where_litestream_reads_it_is_refused_before_the_work(
    database: Database,
) -> None:
    replicated = Database(database.path, leaves_checkpoints=True)
    steps = []
    with subprocess.Popen(
        [sys.executable, "-c", _READ_ON, str(database.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as other:
        assert other.stdout
        other.stdout.readline()

        with pytest.raises(BlockingIOError, match="stop Litestream first"):
            compact(
                replicated,
                of_number(NUMBER),
                lambda done, of: steps.append((done, of)),
                timeout_s=0.1,
            )

        other.communicate()
    assert steps == []
