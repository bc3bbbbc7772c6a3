"""Reads whose cost grows with the data: few at a time, not for long, and no other request waits."""

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

import pytest

from tests.builders import some_messages
from tests.conftest import Api
from tests.store.files import ENDLESS
from webhook_api.errors import ClientLeft, RequestRefused, Unavailable
from webhook_api.execution import EXECUTION_KEY, Execution, Executor, RunElsewhere
from webhook_api.reading.long_reads import LongReads, Refusal
from webhook_api.store.connections import Connection
from webhook_api.store.database import Database

T = TypeVar("T")


class Watching:
    """What `LongReads` reports, and clients that stay or leave."""

    def __init__(self) -> None:
        self.refusals: list[Refusal] = []
        self.left = False

    def is_gone(self) -> bool:
        return self.left


@pytest.fixture
def watching() -> Watching:
    return Watching()


@pytest.fixture
def reads(database: Database, watching: Watching) -> LongReads:
    return LongReads(database, watching.refusals.append, deadline_s=1, wait_s=10)


def there() -> bool:
    return False


def one(db: Connection) -> int:
    return int(db.execute("SELECT 1").fetchone()[0])


def endless(db: Connection) -> int:
    return int(db.execute(ENDLESS).fetchone()[0])


def itself(db: Connection) -> Connection:
    return db


def numbers(db: Connection) -> Iterator[list[int]]:
    for number in range(3):
        yield [number + 0 * one(db)]


def read(
    reads: LongReads, work: Callable[[Connection], T], has_left: Callable[[], bool] = there
) -> T:
    with reads.reader(has_left) as db:
        return work(db)


def refused(read: Callable[[], object]) -> tuple[type, object, float]:
    """Return the error of `read`, its detail, and how many seconds it took."""
    started = time.monotonic()
    with pytest.raises(RequestRefused) as error:
        read()
    return error.type, error.value.detail, time.monotonic() - started


def test_each_failed_read_raises_its_own_exception(reads: LongReads) -> None:
    errors = []
    for _ in range(3):
        with pytest.raises(sqlite3.OperationalError, match="no such table") as failed:
            read(reads, lambda db: db.execute("SELECT * FROM no_table").fetchone())
        errors.append(failed.value)

    assert len({id(error) for error in errors}) == 3


def test_a_read_over_its_time_is_interrupted_and_the_next_reads(
    reads: LongReads, watching: Watching
) -> None:
    acquired = read(reads, itself)

    kind, detail, seconds = refused(lambda: read(reads, endless))

    assert (kind, detail) == (Unavailable, "the read took longer than 1 s")
    assert 1 <= seconds < 20
    assert watching.refusals == [Refusal.DEADLINE]
    assert read(reads, itself) is not acquired  # what failed may have kept what is wrong
    assert read(reads, one) == 1


def test_a_read_whose_client_leaves_is_interrupted(database: Database, watching: Watching) -> None:
    reads = LongReads(database, watching.refusals.append, deadline_s=60)
    threading.Timer(0.1, setattr, [watching, "left", True]).start()

    kind, _, seconds = refused(lambda: read(reads, endless, watching.is_gone))

    assert kind is ClientLeft
    assert seconds < 30
    assert watching.refusals == [Refusal.CLIENT_LEFT]
    assert read(reads, one) == 1


def test_a_read_whose_client_left_before_its_turn_is_never_begun(
    reads: LongReads, watching: Watching
) -> None:
    begun: list[Connection] = []
    watching.left = True

    kind, *_ = refused(lambda: read(reads, begun.append, watching.is_gone))

    assert kind is ClientLeft
    assert begun == []


def test_a_read_waits_for_another_a_while_and_no_longer(
    database: Database, watching: Watching
) -> None:
    reads = LongReads(database, watching.refusals.append, deadline_s=60, wait_s=0.15)
    began, go = threading.Event(), threading.Event()

    def hold(db: Connection) -> int:
        began.set()
        go.wait(60)
        return one(db)

    other = threading.Thread(target=read, args=[reads, hold])
    other.start()
    began.wait(60)
    kind, detail, seconds = refused(lambda: read(reads, one))
    # Each block of a stream is short: it need not wait for a long read.
    streamed = list(reads.stream(numbers, there))
    go.set()
    other.join()

    assert (kind, detail) == (Unavailable, "other reads took longer than 0.15 s")
    assert 0.15 <= seconds < 20
    assert watching.refusals == [Refusal.NO_TURN]
    assert streamed == [0, 1, 2]
    assert read(reads, one) == 1


def test_a_stream_whose_client_leaves_ends_at_its_next_block(
    reads: LongReads, watching: Watching
) -> None:
    stream = reads.stream(numbers, watching.is_gone)
    next(stream)
    watching.left = True

    kind, *_ = refused(lambda: next(stream))

    assert kind is ClientLeft
    assert watching.refusals == [Refusal.CLIENT_LEFT]


@pytest.mark.parametrize(
    ("url", "executor"),
    [
        ("/messages?q=a", Executor.LONG_READ),
        ("/messages?q=%20a", Executor.LONG_READ),
        ("/messages?q=%26", Executor.LONG_READ),
        ("/messages?x=q=a&q=%C3%A4", Executor.LONG_READ),
        ("/messages?offset=5000", Executor.LONG_READ),
        ("/messages?from=%2B1&since=2025-01-01T00:00:00Z", Executor.LONG_READ),
        ("/stats?until=2025-01-01T00:00:00Z", Executor.LONG_READ),
        ("/inbox?to=%2B1", Executor.LONG_READ),
        ("/messages?to=%2B1", Executor.LONG_READ),
        ("/messages?provider=meta", Executor.LONG_READ),
        ("/stats?to=%2B1", Executor.LONG_READ),
        ("/stats?provider=meta", Executor.LONG_READ),
        ("/messages?to=&provider=", None),
        ("/messages?message_id=m1&to=%2B1&q=a", None),
        ("/messages", None),
        ("/messages?q=&since=2025-01-01T00:00:00Z", None),
        ("/stats?from=%2B1", None),
        ("/inbox", None),
        ("/inbox?from=%2B1", Executor.LONG_READ),
        ("/inbox?until=2025-01-01", Executor.LONG_READ),
        ("/inbox?from=%2B1&order=ts", None),
        ("/inbox?order=ts&until=2025-01-01", None),
        ("/inbox?message_id=m1&from=%2B1", None),
    ],
)
def test_the_view_alone_says_which_read_is_long(
    api: Api, url: str, executor: Executor | None
) -> None:
    api.store(*some_messages(3))
    moved_to = None
    try:
        reply = api.client.get(url, environ_base={EXECUTION_KEY: Execution(Executor.PAGE)})
    except RunElsewhere as elsewhere:
        moved_to = elsewhere.executor
        reply = api.client.get(url, environ_base={EXECUTION_KEY: Execution(elsewhere.executor)})

    assert moved_to is executor
    assert reply.status_code == 200


def test_no_view_reads_the_database_in_the_event_loop(api: Api) -> None:
    reply = api.client.get("/messages", environ_base={EXECUTION_KEY: Execution(Executor.LOOP)})

    assert reply.status_code == 500
