"""Group commit: no delivery waits longer than its deadline, and not for nothing."""

import random
import sqlite3
import threading
import time
from collections.abc import Sequence
from contextlib import closing

import pytest

from tests.intake.commits import MAX_PENDING, Record, group, message, store_one, stored
from tests.serving import in_threads, wait_until
from webhook_api.errors import Unavailable
from webhook_api.intake.group_commit import GroupCommit
from webhook_api.models import InboundMessage
from webhook_api.store.database import Database
from webhook_api.store.lock import LockedConnection
from webhook_api.store.messages import StoreResult
from webhook_api.store.writer import Writer

DEADLINE_S = 0.4


@pytest.fixture
def commits(database: Database, record: Record) -> GroupCommit:
    return group(database, record, deadline_s=DEADLINE_S)


def test_every_delivery_gives_up_at_its_deadline_when_another_process_writes(
    commits: GroupCommit, record: Record, database: Database
) -> None:
    waited: list[float] = []

    def store() -> None:
        started = time.monotonic()
        with pytest.raises(Unavailable, match="another process, which holds the write lock"):
            store_one(commits, message(message_id="late"))
        waited.append(time.monotonic() - started)

    with database.write_lock():
        in_threads(8, store)

    assert min(waited) >= DEADLINE_S
    assert max(waited) < 10
    assert store_one(group(database, record), message(message_id="next")).created
    assert stored(database) == ["next"]


def test_another_program_that_writes_is_waited_for_without_the_lock(
    commits: GroupCommit, record: Record, database: Database
) -> None:
    with closing(
        sqlite3.connect(database.path, isolation_level=None, check_same_thread=False)
    ) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable, match="another program, which writes"):
            store_one(commits, message(message_id="m1"))
        with database.write_lock(timeout_s=0.2):
            pass
        release = threading.Timer(DEADLINE_S / 3, lambda: other.execute("COMMIT"))
        release.start()

        result = store_one(group(database, record), message(message_id="m1"))

        release.join()
    assert result == StoreResult(created=True)


def test_deliveries_beyond_the_bound_are_refused_at_once_in_a_stall(
    database: Database, record: Record
) -> None:
    commits = GroupCommit(database, record, deadline_s=60, max_waiting=2)
    waiting = [
        threading.Thread(target=commits.store, args=[[message(message_id=f"m{number}")]])
        for number in range(2)
    ]
    with database.write_lock():
        for thread in waiting:
            thread.start()
        wait_until(lambda: record.pending == 2)
        with pytest.raises(Unavailable, match="waited too long"):
            store_one(commits, message(message_id="early"))
        with pytest.raises(Unavailable, match="too many"):
            store_one(commits, message(message_id="third"))

    for thread in waiting:
        thread.join()
    commits.close()
    assert sorted(stored(database)) == ["m0", "m1"]


def test_a_burst_beyond_the_bound_is_accepted_while_commits_go_on(
    database: Database, record: Record
) -> None:
    commits = GroupCommit(database, record, deadline_s=60, max_waiting=2)
    numbers = iter(range(40))
    answers: list[StoreResult] = []

    def store() -> None:
        answers.append(store_one(commits, message(message_id=f"m{next(numbers)}")))

    with database.write_lock():
        threads = [threading.Thread(target=store) for _ in range(40)]
        for thread in threads:
            thread.start()
        wait_until(lambda: record.pending > 20)
    for thread in threads:
        thread.join()

    commits.close()
    assert answers == [StoreResult(created=True)] * 40


def test_a_check_says_whether_a_message_could_be_stored_and_stores_none(
    database: Database, record: Record
) -> None:
    commits = group(database, record, probe_valid_s=0)
    commits.check(1.0)

    with database.write_lock(), pytest.raises(Unavailable, match="another process"):
        commits.check(0.1)

    assert stored(database) == []


def test_deliveries_are_answered_even_if_deadlines_and_commits_coincide(
    database: Database, record: Record
) -> None:
    commits = GroupCommit(database, record, deadline_s=0.004, max_waiting=MAX_PENDING)
    created: list[str] = []
    stop = threading.Event()
    numbers = iter(range(10**9))
    seeds = iter(range(1, 100))

    def hold() -> None:
        chance = random.Random(0)
        while not stop.is_set():
            with database.write_lock():
                time.sleep(chance.uniform(0, 0.006))
            time.sleep(chance.uniform(0, 0.003))

    def work() -> None:
        chance = random.Random(next(seeds))
        for _ in range(60):
            message_id = f"m{next(numbers)}"
            try:
                if chance.random() < 0.2:
                    commits.check(chance.uniform(0, 0.005))
                elif store_one(commits, message(message_id=message_id)).created:
                    created.append(message_id)
            except Unavailable:
                pass

    holder = threading.Thread(target=hold)
    holder.start()
    in_threads(24, work)
    stop.set()
    holder.join()

    def can_store() -> bool:
        try:
            return store_one(commits, message(message_id="last")) is not None
        except Unavailable:
            return False

    wait_until(can_store, timeout_s=30)
    commits.close()
    assert record.pending == 0
    assert set(created) <= set(stored(database))
    assert len(created) == len(set(created))


def test_a_delivery_is_answered_in_time_when_a_commit_hangs(
    database: Database, record: Record
) -> None:
    release = threading.Event()

    class Hanging(Writer):
        def store(
            self, connection: LockedConnection, messages: Sequence[InboundMessage]
        ) -> list[StoreResult]:
            release.wait()
            return super().store(connection, messages)

    commits = group(database, record, deadline_s=DEADLINE_S, writer=Hanging(database))
    started = time.monotonic()

    with pytest.raises(Unavailable, match="waited too long for the disk"):
        store_one(commits, message(message_id="m1"))

    assert DEADLINE_S <= time.monotonic() - started < 10
    release.set()
    assert not store_one(commits, message(message_id="m1")).created
