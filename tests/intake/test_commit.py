"""Group commit: what becomes of each delivery of a batch, in time; and the upkeep after it."""

import logging
import random
import sqlite3
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from tests.intake.commits import MAX_PENDING, Record, group, message, store_one, stored
from tests.serving import in_threads, wait_until
from webhook_api.errors import Unavailable
from webhook_api.intake.group_commit import MAX_BATCH, GroupCommit
from webhook_api.models import InboundMessage
from webhook_api.store import writer as writers
from webhook_api.store.database import Database
from webhook_api.store.indexing import index_messages
from webhook_api.store.messages import StoreResult
from webhook_api.store.writer import Writer

DEADLINE_S = 0.4
NEW, OLD = StoreResult(created=True), StoreResult(created=False)


@pytest.fixture
def hurried(database: Database, record: Record) -> GroupCommit:
    return group(database, record, deadline_s=DEADLINE_S)


class Stub(Writer):
    """A writer that does something before it stores."""

    def __init__(self, database: Database, before: Callable[[], object]) -> None:
        super().__init__(database)
        self.before = before

    def store(self, *batch: Any, **more: Any) -> tuple[list[StoreResult], list[int]]:
        self.before()
        return super().store(*batch, **more)


def store_together(
    commits: GroupCommit, record: Record, messages: list[InboundMessage]
) -> list[StoreResult | Exception]:
    """Store `messages` from a thread each, all of which arrive while another process writes."""
    answers: dict[int, StoreResult | Exception] = {}

    def store(number: int) -> None:
        try:
            answers[number] = store_one(commits, messages[number])
        except Exception as error:
            answers[number] = error

    threads = [threading.Thread(target=store, args=[number]) for number in range(len(messages))]
    with record.database.write_lock():
        for number, thread in enumerate(threads):
            thread.start()
            wait_until(lambda number=number: record.pending > number)  # type: ignore[misc]
    for thread in threads:
        thread.join()
    return [answers[number] for number in range(len(messages))]


@pytest.mark.parametrize(
    ("deliveries", "batches"), [(1, [1]), (20, [20]), (MAX_BATCH + 5, [MAX_BATCH, 5])]
)
def test_what_arrives_during_a_commit_is_committed_together_up_to_a_bound(
    commits: GroupCommit, record: Record, database: Database, deliveries: int, batches: list[int]
) -> None:
    ids = [f"m{number}" for number in range(deliveries)]

    answers = store_together(commits, record, [message(message_id=id_) for id_ in ids])

    assert answers == [NEW] * deliveries
    assert stored(database) == ids
    assert (record.batches, record.pending) == (batches, 0)


# The id and the text of each delivery, and whether it is new and whether it differs from the first.
BATCHES = {
    "new and old": [
        ("old", "Hello", False, False), ("a", "1", True, False), ("a", "1", False, False),
        ("a", "2", False, True), ("old", "3", False, True), ("b", "4", True, False),
        ("old", "Hello", False, False), ("a", "1", False, False), ("c", "5", True, False),
    ],
    "all the same": [("a", "1", True, False), ("a", "2", False, True), ("a", "1", False, False)],
    "all old": [("old", "Hello", False, False), ("old", "1", False, True)],
}  # fmt: skip


@pytest.mark.parametrize("batch", BATCHES.values(), ids=BATCHES)
def test_each_delivery_of_a_batch_learns_its_own_result_and_the_first_is_kept(
    commits: GroupCommit, record: Record, database: Database,
    batch: list[tuple[str, str, bool, bool]],
) -> None:  # fmt: skip
    store_one(commits, message(message_id="old"))

    answers = store_together(
        commits, record, [message(message_id=id_, text=text) for id_, text, *_ in batch]
    )

    assert answers == [StoreResult(created, conflict) for *_, created, conflict in batch]
    with database.reader() as reader:
        kept = reader.execute("SELECT message_id, text FROM messages ORDER BY id").fetchall()
    assert kept == [("old", "Hello"), *(each[:2] for each in batch if each[2])]


POISONED = message(message_id="p").model_copy(update={"to_msisdn": "\ud800"})


def test_the_messages_of_one_delivery_are_stored_together_or_not_at_all(
    commits: GroupCommit, record: Record, database: Database
) -> None:
    many = [message(message_id=f"m{number}") for number in range(1000)]

    created = commits.store(many)
    with pytest.raises(RuntimeError):
        commits.store([message(message_id="new"), POISONED])
    overlapping = commits.store([*many[500:], message(message_id="last")])

    assert created == [NEW] * 1000
    assert overlapping == [OLD] * 500 + [NEW]
    assert len(stored(database)) == 1001
    assert record.batches == [1000, 501]


def test_a_row_that_cannot_be_stored_does_not_fail_its_neighbours(
    commits: GroupCommit, record: Record, database: Database
) -> None:
    messages = [message(message_id="before"), POISONED, message(message_id="after")]

    first, error, last = store_together(commits, record, messages)

    assert (first, last) == (NEW, NEW)
    assert isinstance(error, RuntimeError)
    assert isinstance(error.__cause__, UnicodeEncodeError)
    assert stored(database) == ["before", "after"]


def test_a_bug_is_raised_and_the_next_delivery_is_stored(
    database: Database, record: Record
) -> None:
    def fail() -> None:
        raise TypeError("a bug")

    writer = Stub(database, fail)
    commits = group(database, record, writer=writer)

    with pytest.raises(RuntimeError, match="a bug"):
        store_one(commits, message())

    writer.before = lambda: None
    assert store_one(commits, message()) == NEW


def test_deliveries_that_fail_together_each_raise_an_exception_of_their_own(
    commits: GroupCommit, record: Record, database: Database
) -> None:
    database.path.rename(database.path.with_name("away"))

    answers = store_together(commits, record, [message()] * 20)

    assert {str(answer) for answer in answers} == {"database: No such file or directory"}
    assert len({id(answer) for answer in answers}) == 20
    for answer in answers:
        assert isinstance(answer, Exception)
        assert len(traceback.extract_tb(answer.__traceback__)) < 10


def test_a_check_says_whether_a_message_could_be_stored_and_stores_none(
    database: Database, record: Record
) -> None:
    commits = group(database, record, probe_valid_s=60)
    in_threads(20, lambda: commits.check(30))  # all share one write
    with database.reader() as reader:
        assert reader.execute("SELECT probes FROM totals").fetchone() == (1,)
    other = group(database, record, probe_valid_s=0)
    other.check(30)

    with database.write_lock(), pytest.raises(Unavailable, match="another process"):
        other.check(0.1)

    assert stored(database) == []
    assert record.batches == []


def test_a_closed_group_refuses_and_leaves_an_empty_wal(
    commits: GroupCommit, database: Database
) -> None:
    store_one(commits, message(message_id="m1"))

    commits.close()

    with pytest.raises(Unavailable, match="shutting down"):
        store_one(commits, message(message_id="m2"))
    assert database.sizes()["wal"] == 0
    assert stored(database) == ["m1"]


def test_closing_waits_only_a_while_for_another_process(database: Database, record: Record) -> None:
    commits = group(database, record, close_timeout_s=0.1)
    store_one(commits, message())

    with database.write_lock():
        commits.close()  # it returns, though the lock is held

    assert stored(database) == ["m1"]


def test_every_delivery_gives_up_at_its_deadline_when_another_process_writes(
    hurried: GroupCommit, commits: GroupCommit, database: Database
) -> None:
    waited: list[float] = []

    def store() -> None:
        started = time.monotonic()
        with pytest.raises(Unavailable, match="another process, which holds the write lock"):
            store_one(hurried, message(message_id="late"))
        waited.append(time.monotonic() - started)

    with database.write_lock():
        in_threads(8, store)

    assert len(waited) == 8
    assert min(waited) >= DEADLINE_S
    assert store_one(commits, message(message_id="next")) == NEW
    assert stored(database) == ["next"]


def test_another_program_that_writes_is_waited_for_without_the_lock(
    hurried: GroupCommit, commits: GroupCommit, database: Database
) -> None:
    with closing(
        sqlite3.connect(database.path, isolation_level=None, check_same_thread=False)
    ) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable, match="another program, which writes"):
            store_one(hurried, message())
        with database.write_lock(timeout_s=10):
            pass
        release = threading.Timer(0.1, lambda: other.execute("COMMIT"))
        release.start()

        result = store_one(commits, message())

        release.join()
    assert result == NEW


def test_deliveries_beyond_the_bound_are_refused_at_once_in_a_stall(
    database: Database, record: Record
) -> None:
    commits = group(database, record, deadline_s=60, max_waiting=2)
    waiting = [
        threading.Thread(target=commits.store, args=[[message(message_id=f"m{number}")]])
        for number in range(2)
    ]
    with database.write_lock():
        for thread in waiting:
            thread.start()
        wait_until(lambda: record.pending == 2)
        for says in ("waited too long", "too many"):
            with pytest.raises(Unavailable, match=says):
                store_one(commits, message(message_id="more"))
    for thread in waiting:
        thread.join()
    commits.close()
    assert sorted(stored(database)) == ["m0", "m1"]


def test_a_burst_beyond_the_bound_is_accepted_while_commits_go_on(
    database: Database, record: Record
) -> None:
    commits = group(database, record, deadline_s=60, max_waiting=2)
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

    assert answers == [NEW] * 40


def test_deliveries_are_answered_even_if_deadlines_and_commits_coincide(
    database: Database, record: Record
) -> None:
    commits = group(database, record, deadline_s=0.004, max_waiting=MAX_PENDING)
    created: list[str] = []
    stop = threading.Event()
    numbers, seeds = iter(range(10**9)), iter(range(1, 100))

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

    wait_until(can_store)
    commits.close()
    assert record.pending == 0
    assert set(created) <= set(stored(database))
    assert len(created) == len(set(created))


def test_a_delivery_is_answered_in_time_when_a_commit_hangs(
    database: Database, record: Record
) -> None:
    release = threading.Event()
    writer = Stub(database, release.wait)
    hurried = group(database, record, deadline_s=DEADLINE_S, writer=writer)
    started = time.monotonic()

    with pytest.raises(Unavailable, match="waited too long for the disk"):
        store_one(hurried, message())

    assert time.monotonic() - started >= DEADLINE_S
    release.set()
    wait_until(lambda: stored(database) == ["m1"])


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
    wait_until(lambda: database.sizes()["wal"] <= 600_000)


def test_no_delivery_hears_of_an_upkeep_that_fails(
    database: Database, record: Record, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    writer = Writer(database, index_every=1)
    commits = group(database, record, writer=writer)
    answers: list[Any] = []
    waiting = threading.Thread(
        target=lambda: answers.append(store_one(commits, message(message_id="m2")))
    )

    def fail(*_arguments: object, **_settings: object) -> None:
        waiting.start()
        wait_until(lambda: record.pending == 1)
        raise Unavailable("database: the disk is full")

    monkeypatch.setattr(writers, "index_messages", fail)
    with caplog.at_level(logging.WARNING):
        store_one(commits, message(message_id="m1"))
        wait_until(lambda: waiting.ident is not None)
        waiting.join(60)

    assert [answer.created for answer in answers] == [True]
    assert "upkeep of the database failed: database: the disk is full" in caplog.text
    assert not writer.index_or_checkpoint_is_due  # for some seconds


def test_long_texts_are_indexed_in_steps_between_which_deliveries_are_stored(
    database: Database, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[int] = []

    def count_steps(*arguments: Any, **settings: Any) -> int:
        rows = index_messages(*arguments, **settings)
        steps.append(rows)
        return rows

    monkeypatch.setattr(writers, "index_messages", count_steps)
    commits = group(database, record, writer=Writer(database, index_every=20))
    for number in range(20):
        text = "".join(chr(0x4E00 + (number * 4096 + place) % 20_000) for place in range(4096))
        store_one(commits, message(message_id=f"m{number}", text=text))

    wait_until(lambda: len(steps) == 1)
    for number in range(20, 36):
        store_one(commits, message(message_id=f"m{number}", text="short"))

    wait_until(lambda: sum(steps) == 36)
    assert steps == [8, 8, 20]
