"""The worker's threads: reads wait for reads, all other requests find a thread."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Event

import pytest

from tests.serving import wait_until
from webhook_api.request_kind import kind_of
from webhook_api.server.pool import Pool
from webhook_api.shares import Kind, Share, Shares

DONE_S = 5.0
Clock = Callable[[], float]


@pytest.fixture
def end() -> Iterator[Event]:
    """Work that keeps a thread busy until the test is over."""
    end = Event()
    yield end
    end.set()


def wait(end: Event) -> None:
    end.wait(DONE_S)


def a_pool(threads: int, shared: int, **clock: Clock) -> Pool:
    shares = {Kind.PAGE: Share(shared), Kind.LONG_READ: Share(1, wait_s=1.0)}
    return Pool(threads, shared, shares, **clock)


def nothing() -> None:
    pass


def test_requests_without_a_kind_always_find_a_thread(end: Event) -> None:
    pool, urgent, last = a_pool(3, shared=2), Event(), Event()
    for _ in range(10):
        pool.give(partial(wait, end), Kind.PAGE, nothing)
    pool.give(last.set, Kind.PAGE, nothing)

    pool.give(urgent.set, None, nothing)

    assert urgent.wait(DONE_S)
    assert not last.is_set()
    end.set()
    assert last.wait(DONE_S)


def test_one_kind_leaves_threads_for_another(end: Event) -> None:
    pool, page = a_pool(3, shared=2), Event()
    for _ in range(10):
        pool.give(partial(wait, end), Kind.LONG_READ, nothing)

    pool.give(page.set, Kind.PAGE, nothing)

    assert page.wait(DONE_S)


def test_waiting_requests_are_done_in_their_order_even_if_one_fails() -> None:
    pool, done = a_pool(2, shared=1), list[int]()

    def work(number: int) -> None:
        done.append(number)
        raise ValueError

    for number in range(20):
        pool.give(partial(work, number), [Kind.PAGE, Kind.LONG_READ][number % 2], nothing)

    wait_until(lambda: len(done) == 20)
    assert done == list(range(20))


def test_a_request_that_waited_too_long_is_refused_and_not_done(end: Event) -> None:
    now, done, refused = [0.0], list[int](), list[int]()
    pool = a_pool(2, shared=2, clock=lambda: now[0])
    pool.give(partial(wait, end), Kind.LONG_READ, nothing)
    for number in range(4):
        now[0] = number * 0.4
        pool.give(partial(done.append, number), Kind.LONG_READ, partial(refused.append, number))

    now[0] = 1.3
    pool.expire()
    pool.expire()
    end.set()

    wait_until(lambda: len(done) == 3)
    assert (refused, done) == ([0], [1, 2, 3])


@pytest.mark.parametrize("kind", [None, Kind.PAGE])
def test_without_a_thread_a_request_is_refused_and_not_done_later(
    monkeypatch: pytest.MonkeyPatch, kind: Kind | None
) -> None:
    pool, done = a_pool(2, shared=1), list[str]()

    def no_thread(_pool: ThreadPoolExecutor) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as broken:
        broken.setattr(ThreadPoolExecutor, "_adjust_thread_count", no_thread)
        with pytest.raises(RuntimeError):
            pool.give(lambda: done.append("refused"), kind, nothing)

    for other in (None, Kind.PAGE):
        pool.give(lambda: done.append("done"), other, nothing)
    wait_until(lambda: len(done) == 2)
    assert done == ["done", "done"]


@pytest.mark.parametrize(
    ("target", "kind"),
    [
        ("/messages", Kind.PAGE),
        ("/messages?limit=5&q=", Kind.PAGE),
        ("/messages?from=%2B91&limit=5", Kind.PAGE),
        ("/messages?since=2025-01-01T00:00:00Z", Kind.PAGE),
        ("/messages?offset=999", Kind.PAGE),
        ("/messages?limit=1&q=ab", Kind.LONG_READ),
        ("/messages?%71=ab", Kind.LONG_READ),
        ("http://x/messages?q=ab", Kind.LONG_READ),
        ("/messages?offset=1001", Kind.LONG_READ),
        ("/messages?from=%2B91&since=2025-01-01T00:00:00Z", Kind.LONG_READ),
        ("/messages?until=2025-01-01T00:00:00Z&from=%2B91", Kind.LONG_READ),
        ("/inbox", Kind.PAGE),
        ("/inbox?q=&from=%2B91", Kind.PAGE),
        ("/inbox?from=&q=ab", Kind.LONG_READ),
        ("/inbox?to=%2B91", Kind.LONG_READ),
        ("/inbox/new?above=5", Kind.PAGE),
        ("/stats", Kind.PAGE),
        ("/stats?from=%2B91", Kind.PAGE),
        ("/stats?until=2025-01-01T00:00:00Z", Kind.LONG_READ),
        ("/health/live", Kind.SHORT),
        ("/health/live?", None),
        ("/health/ready", None),
        ("/metrics", None),
    ],
)
def test_the_request_line_tells_the_kind_of_a_request(target: str, kind: Kind | None) -> None:
    head = f"GET {target} HTTP/1.1\r\nHost: x\r\n"

    assert kind_of(f"{head}\r\n".encode()) is kind
    if kind not in (Kind.SHORT, None):
        stream = f"{head}Accept: application/x-ndjson\r\n\r\n"
        assert kind_of(stream.encode()) is Kind.STREAM


@pytest.mark.parametrize("threads", [*range(2, 100), 1024])
def test_deliveries_and_reads_together_leave_threads_for_probes(threads: int) -> None:
    shares = Shares.of(threads)

    assert min(shares) >= 1
    assert shares.long_reads <= shares.reads
    if threads > 3:
        assert shares.deliveries + shares.reads < threads
    if threads > 7:
        assert shares.reads > shares.long_reads
