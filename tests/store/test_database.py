"""The database file: its lock, its readers, and files that are replaced."""

import fcntl
import os
import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
from flask import Flask

from tests.serving import in_threads, wait_until
from tests.store.files import count, store
from webhook_api.db import get_db
from webhook_api.errors import Unavailable
from webhook_api.services import services_of
from webhook_api.store.connections import connect
from webhook_api.store.database import Database
from webhook_api.store.files import REPLACEMENT, beside


def test_one_thread_at_a_time_holds_the_write_lock(database: Database) -> None:
    inside = 0
    most = 0

    def work() -> None:
        nonlocal inside, most
        for _ in range(20):
            with database.write_lock():
                inside += 1
                most = max(most, inside)
                time.sleep(0.0005)
                inside -= 1

    in_threads(8, work)

    assert most == 1


def test_the_wait_for_the_write_lock_ends(database: Database) -> None:
    started = time.monotonic()
    with database.write_lock():
        for timeout_s in (0, 0.2):
            with pytest.raises(BlockingIOError), database.write_lock(timeout_s):
                pass

    assert 0.2 <= time.monotonic() - started < 1
    with database.write_lock(0):
        pass


def test_a_lock_file_that_was_replaced_while_waiting_is_not_taken_for_the_lock(
    database: Database,
) -> None:
    lock_path = database.path.with_name("app.db.lock")
    taken = threading.Event()

    def wait_in_the_kernel() -> None:
        with database.write_lock():
            taken.set()

    old = os.open(lock_path, os.O_RDWR | os.O_CREAT)
    fcntl.flock(old, fcntl.LOCK_EX)
    waiter = threading.Thread(target=wait_in_the_kernel)
    waiter.start()
    waits = f":{lock_path.stat().st_ino} "
    wait_until(
        lambda: any(
            "->" in line and waits in line for line in Path("/proc/locks").read_text().splitlines()
        )
    )
    lock_path.unlink()
    with database.write_lock(0):
        os.close(old)
        taken_beside_us = taken.wait(0.2)

    waiter.join()
    assert not taken_beside_us
    assert taken.is_set()


def test_a_reader_does_not_create_a_file_and_cannot_write(
    database: Database, tmp_path: Path
) -> None:
    with pytest.raises(Unavailable):
        Database(tmp_path / "none.db").acquire_reader()
    with (
        database.reader() as reader,
        pytest.raises(sqlite3.OperationalError, match="readonly"),
    ):
        reader.execute("DELETE FROM totals")

    assert not (tmp_path / "none.db").exists()


def test_a_reader_comes_back_without_its_transaction(database: Database) -> None:
    with database.reader() as reader:
        reader.execute("BEGIN")
        assert count(reader) == 0
    store(database.path, "m1")

    with database.reader() as again:
        assert again is reader
        assert count(again) == 1


def test_readers_of_a_file_that_was_replaced_are_not_lent_again(
    database: Database, tmp_path: Path
) -> None:
    with database.reader() as old:
        assert count(old) == 0
    other = Database(tmp_path / "other.db")
    other.prepare(create=True)
    store(other.path, "from-the-other")
    other.path.replace(database.path)

    with database.reader() as reader:
        stored = count(reader)

    assert reader is not old
    assert stored == 1


def test_what_an_older_version_left_half_replaced_is_finished(
    database: Database, tmp_path: Path
) -> None:
    new = Database(tmp_path / "app.db.restored")
    new.prepare(create=True)
    store(new.path, "new")
    database.path.rename(tmp_path / "app.db.discarded")

    with database.reader() as reader:
        stored = count(reader)

    assert stored == 1
    assert not new.path.exists()
    assert not (tmp_path / "app.db.discarded").exists()


def test_a_request_has_one_connection_and_gives_it_back(app: Flask) -> None:
    with app.app_context():
        first = get_db()
        assert get_db() is first
        with app.app_context():
            assert get_db() is not first

    with app.app_context():
        again = get_db()
        assert not again.in_transaction
    assert services_of(app).database.acquire_reader() is again
    again.close()


def test_a_file_that_is_not_a_database_is_not_kept_open(tmp_path: Path) -> None:
    garbage = tmp_path / "app.db"
    garbage.write_bytes(b"no database" * 1000)

    with pytest.raises(sqlite3.DatabaseError) as refused:
        connect(garbage, "rw", timeout_s=0)

    assert refused.value.__traceback__  # which would keep a connection that was not closed
    assert garbage not in [file.resolve() for file in Path("/proc/self/fd").iterdir()]


def test_a_lock_that_was_released_admits_no_writing(database: Database) -> None:
    with database.write_lock() as lock:
        pass

    with closing(connect(database.path, "rw", timeout_s=0)) as connection:
        with pytest.raises(AssertionError, match="released"):
            lock.admit(connection)
        with pytest.raises(OSError, match="Bad file descriptor"):
            lock.mark_wal_suspect(True)


def test_a_reader_of_a_standby_waits_while_its_copy_is_replaced(database: Database) -> None:
    store(database.path, "m1")
    standby = Database(database.path, is_standby=True)
    replacement = beside(database.path, REPLACEMENT)
    counts: list[int] = []

    def read() -> None:
        with standby.reader() as db:
            counts.append(count(db))

    with closing(standby):
        with database.files_locked(exclusive=True):
            database.path.rename(replacement)
            thread = threading.Thread(target=read)
            thread.start()
            thread.join(0.2)
            waits = thread.is_alive()
            replacement.rename(database.path)
        thread.join(10)

    assert (waits, counts) == (True, [1])
