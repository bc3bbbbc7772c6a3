"""The worker's threads: readers wait for readers, everybody else finds a thread."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Event

import pytest

from tests.serving import wait_until
from webhook_api.server.pool import Pool
from webhook_api.shares import Shares

DONE_S = 5.0


@pytest.fixture
def end() -> Iterator[Event]:
    """What keeps a thread until the test is over."""
    end = Event()
    yield end
    end.set()


def wait(end: Event) -> None:
    end.wait(DONE_S)


def test_what_is_urgent_finds_a_thread_however_much_else_there_is(end: Event) -> None:
    pool, urgent, last = Pool(3, shared=2), Event(), Event()
    for _ in range(10):
        pool.give(partial(wait, end), urgent=False)
    pool.give(last.set, urgent=False)

    pool.give(urgent.set, urgent=True)

    assert urgent.wait(DONE_S)
    assert not last.is_set()
    end.set()
    assert last.wait(DONE_S)


def test_what_waits_is_done_in_its_order_even_if_one_of_it_fails() -> None:
    pool, done = Pool(2, shared=1), list[int]()

    def work(number: int) -> None:
        done.append(number)
        raise ValueError

    for number in range(20):
        pool.give(partial(work, number), urgent=False)

    wait_until(lambda: len(done) == 20)
    assert done == list(range(20))


@pytest.mark.parametrize("is_urgent", [False, True])
def test_without_a_thread_it_is_refused_and_not_done_later(
    monkeypatch: pytest.MonkeyPatch, is_urgent: bool
) -> None:
    pool, done = Pool(2, shared=1), list[str]()

    def no_thread(_pool: ThreadPoolExecutor) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as broken:
        broken.setattr(ThreadPoolExecutor, "_adjust_thread_count", no_thread)
        with pytest.raises(RuntimeError):
            pool.give(lambda: done.append("refused"), urgent=is_urgent)

    for number in range(2):
        pool.give(lambda: done.append("done"), urgent=bool(number))
    wait_until(lambda: len(done) == 2)
    assert done == ["done", "done"]


@pytest.mark.parametrize("threads", [*range(2, 100), 1024])
def test_deliveries_and_reads_together_leave_threads_for_probes(threads: int) -> None:
    shares = Shares.of(threads)

    assert min(shares) >= 1
    assert shares.long_reads <= shares.reads
    if threads > 3:
        assert shares.deliveries + shares.reads < threads
    if threads > 7:
        assert shares.reads > shares.long_reads
