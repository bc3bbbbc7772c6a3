"""Work in several threads: it is nice, and ends together."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from tests.store.files import ENDLESS
from webhook_api.store.background import run_in_parallel
from webhook_api.store.connections import Connection, connect
from webhook_api.store.copies import no_progress
from webhook_api.store.database import Database


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


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux knows the priority of a thread")
def test_the_results_are_in_the_order_of_the_work_and_the_caller_stays_as_it_is(
    two: list[Connection],
) -> None:
    first_may_end = threading.Event()

    def niceness(db: Connection) -> tuple[str, int]:
        (name,) = db.execute("SELECT 'first'").fetchone()
        first_may_end.wait(10)
        return name, os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    def second(_db: Connection) -> tuple[str, int]:
        first_may_end.set()
        return "second", 0

    before = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    steps = []
    results = run_in_parallel([niceness, second], two, lambda done, of: steps.append((done, of)))

    assert results == [("first", before + 10), ("second", 0)]
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == before
    assert steps == [(0, 2), (1, 2), (2, 2)]


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
