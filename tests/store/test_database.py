"""The database file: its lock, its readers, files that are replaced, and work in threads."""

import fcntl
import os
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from flask import Flask

from tests.serving import in_threads, wait_until
from tests.store.files import ENDLESS, count, store
from webhook_api.db import get_db
from webhook_api.errors import Unavailable
from webhook_api.services import services_of
from webhook_api.store.background import run_in_parallel
from webhook_api.store.connections import Connection, MisuseError, connect
from webhook_api.store.copies import no_progress
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

    assert 0.2 <= time.monotonic() - started < 10
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


def test_use_after_its_return_fails(database: Database) -> None:
    with database.reader() as reader:
        cursor = reader.execute("SELECT 1")

    uses: list[Callable[[], object]] = [
        lambda: reader.execute("SELECT 1"), lambda: reader.cursor().execute("SELECT 1"),
        cursor.fetchone, cursor.fetchall, cursor.fetchmany, cursor.__next__,
    ]  # fmt: skip
    for use in uses:
        with pytest.raises(MisuseError, match="after its release"):
            use()


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


def go_on(db: Connection) -> None:
    db.execute(ENDLESS).fetchone()


def fail(_db: Connection) -> None:
    raise ValueError("a bug")


def interrupt(db: Connection) -> None:
    os.kill(os.getpid(), signal.SIGINT)  # as Ctrl-C does, to the main thread
    go_on(db)


def interrupt_elsewhere(db: Connection) -> None:
    """The same, but this thread receives the signal, as happens when the main one is busy."""
    time.sleep(0.1)  # then the main thread waits
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    interrupt(db)


@pytest.fixture
def two(database: Database) -> Iterator[list[Connection]]:
    with (
        closing(connect(database.path, "ro", timeout_s=0)) as one,
        closing(connect(database.path, "ro", timeout_s=0)) as another,
    ):
        yield [one, another]


@pytest.fixture
def main_blocks_sigint() -> Iterator[None]:
    """Keep the main thread from receiving SIGINT."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    yield
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])


def niceness_of_this_thread(_db: Connection | None = None) -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


of_threads = pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux knows the priority of a thread"
)


@of_threads
def test_the_results_are_in_the_order_of_the_work_and_the_caller_stays_as_it_is(
    two: list[Connection],
) -> None:
    first_may_end = threading.Event()

    def niceness(db: Connection) -> tuple[str, int]:
        (name,) = db.execute("SELECT 'first'").fetchone()
        first_may_end.wait(60)
        return name, niceness_of_this_thread()

    def second(_db: Connection) -> tuple[str, int]:
        first_may_end.set()
        return "second", 0

    before = niceness_of_this_thread()
    steps = []
    results = run_in_parallel([niceness, second], two, lambda done, of: steps.append((done, of)))

    assert results == [("first", min(19, before + 10)), ("second", 0)]
    assert niceness_of_this_thread() == before
    assert steps == [(0, 2), (1, 2), (2, 2)]


@of_threads
def test_the_work_of_a_process_that_is_nice_is_nicer(two: list[Connection]) -> None:
    """Only root may set a lower one: the threads would fail."""
    process = min(19, niceness_of_this_thread() + 8)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(lambda: os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), process))
        [niceness] = pool.submit(
            run_in_parallel, [niceness_of_this_thread], two[:1], no_progress
        ).result()

    assert niceness == min(19, process + 10)


@pytest.mark.parametrize(
    ("work", "raised"), [(fail, ValueError), (interrupt, KeyboardInterrupt)], ids=["bug", "ctrl-c"]
)
def test_after_a_failure_or_ctrl_c_what_still_runs_is_interrupted(
    two: list[Connection], work: Callable[[Connection], None], raised: type[BaseException]
) -> None:
    with pytest.raises(raised):
        run_in_parallel([go_on, work], two, no_progress)


@pytest.mark.usefixtures("main_blocks_sigint")
def test_ctrl_c_is_seen_whichever_thread_receives_it(two: list[Connection]) -> None:
    with pytest.raises(KeyboardInterrupt):
        run_in_parallel([go_on, interrupt_elsewhere], two, no_progress)


def test_ctrl_c_while_the_threads_start_leaves_none_that_runs(
    two: list[Connection], monkeypatch: pytest.MonkeyPatch
) -> None:
    start = threading.Thread.start

    def start_and_interrupt(thread: threading.Thread) -> None:
        start(thread)
        os.kill(os.getpid(), signal.SIGINT)

    before = threading.active_count()
    monkeypatch.setattr(threading.Thread, "start", start_and_interrupt)

    with pytest.raises(KeyboardInterrupt):
        run_in_parallel([go_on, go_on], two, no_progress)

    wait_until(lambda: threading.active_count() == before)


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
        thread.join(60)

    assert (waits, counts) == (True, [1])
