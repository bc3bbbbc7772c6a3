"""Reads whose cost grows with the data: few at a time, not for long, and no other request waits."""

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from tests.builders import SECRET, a_message, encode, signed, some_messages
from tests.conftest import Store
from tests.store.files import ENDLESS
from webhook_api import close_app, create_app
from webhook_api.config import Config
from webhook_api.errors import ClientLeft, RequestRefused, Unavailable
from webhook_api.reading.turns import READS_AT_ONCE, Reading, Refusal
from webhook_api.shares import Shares
from webhook_api.store.connections import Connection
from webhook_api.store.database import Database


class Watching:
    """The observer of a `Reading`, and clients that stay or leave."""

    def __init__(self) -> None:
        self.refusals: list[Refusal] = []
        self.left = False

    def read_refused(self, refusal: Refusal) -> None:
        self.refusals.append(refusal)

    def is_gone(self) -> bool:
        return self.left


@pytest.fixture
def watching() -> Watching:
    return Watching()


@pytest.fixture
def reading(database: Database, watching: Watching) -> Reading:
    return Reading(database, watching, places=4, deadline_s=0.2, wait_s=0.2)


def there() -> bool:
    return False


def one(db: Connection) -> int:
    return int(db.execute("SELECT 1").fetchone()[0])


def endless(db: Connection) -> int:
    return int(db.execute(ENDLESS).fetchone()[0])


def itself(db: Connection) -> Connection:
    return db


def numbers(db: Connection) -> Iterator[int]:
    for number in range(3):
        yield number + 0 * one(db)


class Held:
    """Reads that wait in the queue of `reading` until the block ends."""

    def __init__(self, reading: Reading, number: int) -> None:
        self._go = threading.Event()
        self._began = threading.Semaphore(0)
        self._threads = [threading.Thread(target=self._read, args=[reading]) for _ in range(number)]

    def _read(self, reading: Reading) -> None:
        def work(db: Connection) -> int:
            self._began.release()
            self._go.wait(10)
            return one(db)

        reading.read(work, there)

    def __enter__(self) -> None:
        for thread in self._threads:
            thread.start()
        for _ in self._threads[:READS_AT_ONCE]:
            assert self._began.acquire(timeout=5)

    def __exit__(self, *_exception: object) -> None:
        self._go.set()
        for thread in self._threads:
            thread.join()


def refused(read: Callable[[], object]) -> tuple[type, object, float]:
    """Return the error of `read`, its detail, and how many seconds it took."""
    started = time.monotonic()
    with pytest.raises(RequestRefused) as error:
        read()
    return error.type, error.value.detail, time.monotonic() - started


def test_a_read_returns_what_it_reads(reading: Reading, watching: Watching) -> None:
    assert [reading.read(one, there) for _ in range(5)] == [1] * 5
    assert watching.refusals == []


def test_each_failed_read_raises_its_own_exception(reading: Reading) -> None:
    errors = []
    for _ in range(3):
        with pytest.raises(sqlite3.OperationalError, match="no such table") as failed:
            reading.read(lambda db: db.execute("SELECT * FROM no_table").fetchone(), there)
        errors.append(failed.value)

    assert len({id(error) for error in errors}) == 3


def test_a_read_over_its_time_is_interrupted_and_the_next_reads(
    reading: Reading, watching: Watching
) -> None:
    lent = reading.read(itself, there)

    kind, detail, seconds = refused(lambda: reading.read(endless, there))

    assert (kind, detail) == (Unavailable, "the read took longer than 0.2 s")
    assert 0.2 <= seconds < 1
    assert watching.refusals == [Refusal.DEADLINE]
    assert reading.read(itself, there) is not lent  # what failed may have kept what is wrong
    assert reading.read(one, there) == 1


def test_a_read_whose_client_leaves_is_interrupted(database: Database, watching: Watching) -> None:
    reading = Reading(database, watching, places=4, deadline_s=60)
    threading.Timer(0.1, setattr, [watching, "left", True]).start()

    kind, _, seconds = refused(lambda: reading.read(endless, watching.is_gone))

    assert kind is ClientLeft
    assert seconds < 1
    assert watching.refusals == [Refusal.CLIENT_LEFT]
    assert reading.read(one, there) == 1


def test_a_read_whose_client_left_before_its_turn_is_never_begun(
    reading: Reading, watching: Watching
) -> None:
    begun: list[Connection] = []
    watching.left = True

    kind, *_ = refused(lambda: reading.read(begun.append, watching.is_gone))

    assert kind is ClientLeft
    assert begun == []


def test_a_read_waits_for_its_turn_a_while_and_no_longer(
    database: Database, watching: Watching
) -> None:
    reading = Reading(database, watching, places=4, deadline_s=5, wait_s=0.15)

    with Held(reading, READS_AT_ONCE):
        kind, detail, seconds = refused(lambda: reading.read(one, there))

    assert (kind, detail) == (Unavailable, "other reads took longer than 0.15 s")
    assert 0.15 <= seconds < 1
    assert watching.refusals == [Refusal.NO_TURN]
    assert reading.read(one, there) == 1


def test_a_waiting_read_whose_client_leaves_gives_up_its_place(
    database: Database, watching: Watching
) -> None:
    reading = Reading(database, watching, places=READS_AT_ONCE + 1, deadline_s=5, wait_s=5)
    threading.Timer(0.1, setattr, [watching, "left", True]).start()

    with Held(reading, READS_AT_ONCE):
        kind, _, seconds = refused(lambda: reading.read(one, watching.is_gone))
        again, *_ = refused(lambda: reading.read(one, watching.is_gone))

    assert (kind, again) == (ClientLeft, ClientLeft)
    assert seconds < 1


def test_reads_without_a_free_place_are_refused_at_once(
    database: Database, watching: Watching
) -> None:
    reading = Reading(database, watching, places=READS_AT_ONCE, deadline_s=5, wait_s=5)

    with Held(reading, READS_AT_ONCE):
        kind, detail, seconds = refused(lambda: reading.read(one, there))

    assert (kind, detail) == (Unavailable, "too many reads are waiting or being sent")
    assert seconds < 0.1
    assert watching.refusals == [Refusal.NO_PLACE]
    assert reading.read(one, there) == 1


def test_streams_leave_places_for_other_reads(reading: Reading) -> None:
    used: set[Connection] = set()

    def watched(db: Connection) -> Iterator[int]:
        used.add(db)
        return numbers(db)

    streams = [reading.stream(watched, there) for _ in range(3)]
    kind, *_ = refused(lambda: reading.stream(watched, there))
    answer = reading.read(one, there)
    for stream in streams:
        stream.close()
        stream.close()

    assert (kind, answer) == (Unavailable, 1)
    assert [list(reading.stream(watched, there)) for _ in range(5)] == [[0, 1, 2]] * 5
    assert len(used) == 3  # which were lent again


def test_a_stream_without_a_file_takes_no_place(reading: Reading, database: Database) -> None:
    away = database.path.rename(database.path.with_name("away"))
    for _ in range(5):
        kind, *_ = refused(lambda: reading.stream(numbers, there))
        assert kind is Unavailable
    away.rename(database.path)

    streams = [reading.stream(numbers, there) for _ in range(3)]

    assert [list(stream) for stream in streams] == [[0, 1, 2]] * 3


def test_a_stream_has_its_own_reader_until_it_ends(reading: Reading, database: Database) -> None:
    with database.reader() as first:
        pass
    stream = reading.stream(numbers, there)
    next(stream)
    with database.reader() as other:
        assert one(other) == 1
        next(stream)
    with database.reader() as lent:
        rest = list(stream)

    assert (lent, rest) == (other, [2])
    with database.reader() as last, database.reader() as last_but_one:
        assert {last, last_but_one} == {first, other}


def test_a_stream_whose_client_leaves_ends_within_its_read(
    database: Database, watching: Watching
) -> None:
    reading = Reading(database, watching, places=1, deadline_s=60)
    lent = reading.read(itself, there)
    threading.Timer(0.1, setattr, [watching, "left", True]).start()
    stream = reading.stream(lambda db: iter(lambda: endless(db), 0), watching.is_gone)

    kind, _, seconds = refused(lambda: next(stream))
    stream.close()

    assert kind is ClientLeft
    assert seconds < 1
    assert reading.read(itself, there) is not lent  # what was interrupted is not lent again
    assert reading.read(one, there) == 1


def test_a_long_read_does_not_hold_up_a_stream(database: Database, watching: Watching) -> None:
    reading = Reading(database, watching, places=8, deadline_s=5, wait_s=5)

    with Held(reading, READS_AT_ONCE + 1):
        assert list(reading.stream(numbers, there)) == [0, 1, 2]


@pytest.mark.parametrize("threads", [2, 4, 16])
def test_deliveries_and_cheap_reads_have_threads_when_every_place_is_taken(
    config: Config, store: Store, threads: int
) -> None:
    store(*some_messages(20))
    app = create_app(
        Config(
            webhook_secret=SECRET,
            database_path=config.database_path,
            web_threads=threads,
            check_lending=True,
        )
    )
    reading = app.extensions["reading"] = Reading(
        app.extensions["database"],
        app.extensions["metrics"],
        places=Shares.of(threads).long_reads,
        deadline_s=30,
        wait_s=30,
    )
    body = encode(a_message(message_id="beside"))

    def get(path: str) -> int:
        return app.test_client().get(path).status_code

    def deliver() -> int:
        return app.test_client().post("/webhook", data=body, headers=signed(body)).status_code

    with ExitStack() as ends, ThreadPoolExecutor(threads) as pool:
        held = Held(reading, READS_AT_ONCE)
        ends.enter_context(held)
        costly = [
            pool.submit(get, path)
            for path in ["/messages?q=x", "/stats?since=2025-01-01T00:00:00Z"] * 2 * threads
        ]
        cheap = [
            pool.submit(get, path)
            for path in ["/health/live", "/health/ready", "/messages?limit=5", "/stats", "/metrics"]
        ]
        statuses = [future.result(5) for future in [*cheap, pool.submit(deliver)]]
        waiting = sum(not future.done() for future in costly)
        ends.close()

    close_app(app)
    assert statuses == [200] * 6
    assert waiting == max(1, threads // 4) - READS_AT_ONCE
    # Those that waited are answered, all others were refused for want of a place.
    assert sorted(future.result() for future in costly) == (
        [200] * waiting + [503] * (len(costly) - waiting)
    )
