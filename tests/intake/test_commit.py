"""Group commit: what becomes of each delivery of a batch."""

import time
import traceback
from collections.abc import Sequence

import pytest

from tests.intake.commits import Record, group, message, store_one, store_together, stored
from tests.serving import in_threads
from webhook_api.errors import Unavailable
from webhook_api.intake.group_commit import MAX_BATCH, GroupCommit
from webhook_api.models import InboundMessage
from webhook_api.store.database import Database
from webhook_api.store.lock import LockedConnection
from webhook_api.store.messages import StoreResult
from webhook_api.store.writer import Writer


def test_a_lone_message_is_stored_when_the_call_returns(
    commits: GroupCommit, record: Record, database: Database
) -> None:
    result = store_one(commits, message(message_id="m1"))

    assert result == StoreResult(created=True)
    assert stored(database) == ["m1"]
    assert (record.batches, record.pending) == ([1], 0)


@pytest.mark.parametrize(
    ("deliveries", "batches"), [(20, [20]), (MAX_BATCH + 5, [MAX_BATCH, 5])], ids=["few", "many"]
)
def test_what_arrives_during_a_commit_is_committed_together_up_to_a_bound(
    commits: GroupCommit, record: Record, database: Database, deliveries: int, batches: list[int]
) -> None:
    ids = [f"m{number}" for number in range(deliveries)]

    answers = store_together(commits, record, database, [message(message_id=id_) for id_ in ids])

    assert answers == [StoreResult(created=True)] * deliveries
    assert stored(database) == ids
    assert record.batches == batches


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
        commits, record, database, [message(message_id=id_, text=text) for id_, text, *_ in batch]
    )

    assert answers == [StoreResult(created, conflict) for *_, created, conflict in batch]
    with database.reader() as reader:
        kept = reader.execute("SELECT message_id, text FROM messages ORDER BY id").fetchall()
    assert kept == [("old", "Hello"), *(each[:2] for each in batch if each[2])]


def test_the_messages_of_one_delivery_are_stored_together_or_not_at_all(
    commits: GroupCommit, record: Record, database: Database
) -> None:
    many = [message(message_id=f"m{number}") for number in range(1000)]
    poisoned = message(message_id="p").model_copy(update={"to_msisdn": "\ud800"})

    created = commits.store(many)
    with pytest.raises(RuntimeError):
        commits.store([message(message_id="new"), poisoned])
    overlapping = commits.store([*many[500:], message(message_id="last")])

    assert created == [StoreResult(created=True)] * 1000
    assert overlapping == [StoreResult(created=False)] * 500 + [StoreResult(created=True)]
    assert len(stored(database)) == 1001
    assert record.batches == [1000, 501]


def test_a_row_that_cannot_be_stored_does_not_fail_its_neighbours(
    commits: GroupCommit, record: Record, database: Database
) -> None:
    poisoned = message(message_id="p").model_copy(update={"to_msisdn": "\ud800"})
    messages = [message(message_id="before"), poisoned, message(message_id="after")]

    first, error, last = store_together(commits, record, database, messages)

    assert (first, last) == (StoreResult(created=True), StoreResult(created=True))
    assert isinstance(error, RuntimeError)
    assert isinstance(error.__cause__, UnicodeEncodeError)
    assert stored(database) == ["before", "after"]


def test_a_bug_is_raised_and_the_next_delivery_is_stored(
    database: Database, record: Record
) -> None:
    class Wrong(Writer):
        bug: str | None = "a bug"

        def store(
            self, connection: LockedConnection, messages: Sequence[InboundMessage]
        ) -> list[StoreResult]:
            if self.bug:
                raise TypeError(self.bug)
            return super().store(connection, messages)

    writer = Wrong(database)
    commits = group(database, record, writer=writer)

    with pytest.raises(RuntimeError, match="a bug"):
        store_one(commits, message(message_id="m1"))

    writer.bug = None
    assert store_one(commits, message(message_id="m1")) == StoreResult(created=True)


def test_deliveries_that_fail_together_each_raise_an_exception_of_their_own(
    database: Database, record: Record
) -> None:
    commits = group(database, record)
    database.path.rename(database.path.with_name("away"))

    answers = store_together(commits, record, database, [message()] * 20)

    assert {str(answer) for answer in answers} == {"database: No such file or directory"}
    assert len({id(answer) for answer in answers}) == 20
    assert all(_frames(answer) < 5 for answer in answers)


def _frames(error: StoreResult | Exception) -> int:
    assert isinstance(error, Exception)
    return len(traceback.extract_tb(error.__traceback__))


def test_probes_within_a_second_share_one_write(
    commits: GroupCommit, record: Record, database: Database
) -> None:
    in_threads(20, lambda: commits.check(5))

    with database.reader() as reader:
        assert reader.execute("SELECT probes FROM totals").fetchone() == (1,)
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
    store_one(commits, message(message_id="m1"))
    started = time.monotonic()

    with database.write_lock():
        commits.close()

    assert time.monotonic() - started < 10
    assert stored(database) == ["m1"]
