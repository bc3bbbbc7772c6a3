"""Requests that run in the event loop's own thread, and wait there for another thread."""

import os
import threading
from collections import deque
from collections.abc import Callable
from contextlib import closing
from selectors import EVENT_READ, DefaultSelector
from types import SimpleNamespace
from typing import Any

import pytest
from gunicorn.config import Config as GunicornConfig

from webhook_api.server.greenlets import Greenlets, GreenletWait
from webhook_api.server.worker import PatientWorker


class Loop:
    """An event loop and a clock that only the tests move."""

    def __init__(self) -> None:
        self.now = 100.0
        self.wake_ups = 0
        self.greenlets = Greenlets(self._wake_up, lambda: self.now)
        self.handed_over: list[str] = []
        self.seen: list[tuple[str, bool]] = []
        self.waits: dict[str, GreenletWait] = {}

    def _wake_up(self) -> None:
        self.wake_ups += 1

    def begin(self, name: str, patience_s: float = 4.0) -> None:
        self.greenlets.run(self._request(name, patience_s))

    def _request(self, name: str, patience_s: float) -> Callable[[], None]:
        def request() -> None:
            wait = self.waits[name] = self.greenlets.wait()
            wait.start(lambda: self.handed_over.append(name))
            self.seen.append((name, wait.until_ended(patience_s)))

        return request

    def end(self, *names: str) -> None:
        """End these waits, in another thread."""

        def end() -> None:
            for name in names:
                self.waits[name].end()

        thread = threading.Thread(target=end)
        thread.start()
        thread.join()


@pytest.fixture
def loop() -> Loop:
    return Loop()


def test_what_is_ready_together_is_handed_over_together(loop: Loop) -> None:
    loop.begin("a")
    loop.begin("b")
    assert loop.handed_over == []

    loop.greenlets.hand_over()
    loop.greenlets.hand_over()

    assert loop.handed_over == ["a", "b"]
    assert loop.seen == []


def test_a_batch_wakes_the_loop_once_and_all_its_requests_go_on(loop: Loop) -> None:
    for name in "abc":
        loop.begin(name)

    loop.end("b", "a")
    assert loop.wake_ups == 1
    loop.greenlets.resume()
    loop.end("c")
    loop.greenlets.resume()

    assert loop.wake_ups == 2
    assert loop.seen == [("b", True), ("a", True), ("c", True)]


def test_a_wait_ends_at_its_own_deadline_and_the_loop_sleeps_no_longer(loop: Loop) -> None:
    loop.begin("patient", 4.0)
    loop.begin("impatient", 0.5)
    assert loop.greenlets.idle_s(0.25) == 0.25
    loop.now += 0.4
    assert loop.greenlets.idle_s(0.25) == pytest.approx(0.1)

    loop.now += 0.1
    assert loop.greenlets.idle_s(0.25) == 0
    loop.greenlets.resume()

    assert loop.seen == [("impatient", False)]
    loop.now += 3.5
    loop.greenlets.resume()
    assert loop.seen == [("impatient", False), ("patient", False)]
    assert loop.greenlets.idle_s(0.25) == 0.25


def test_an_answer_that_comes_too_late_is_ignored(loop: Loop) -> None:
    loop.begin("late", 1.0)
    loop.now += 1.0
    loop.greenlets.resume()

    loop.end("late")
    loop.greenlets.resume()

    assert loop.seen == [("late", False)]


def test_an_answer_at_the_last_moment_counts(loop: Loop) -> None:
    loop.begin("just in time", 1.0)
    loop.now += 1.0
    loop.end("just in time")

    loop.greenlets.resume()

    assert loop.seen == [("just in time", True)]


def test_an_answer_before_the_wait_needs_no_wait(loop: Loop) -> None:
    def request() -> None:
        wait = loop.greenlets.wait()
        wait.end()
        loop.seen.append(("at once", wait.until_ended(4.0)))

    loop.greenlets.run(request)

    assert loop.seen == [("at once", True)]


def test_an_error_in_a_request_is_raised_where_the_loop_runs_it(loop: Loop) -> None:
    def request() -> None:
        loop.greenlets.wait().until_ended(1.0)
        raise SystemExit(3)

    loop.greenlets.run(request)
    loop.now += 1.0

    with pytest.raises(SystemExit):
        loop.greenlets.resume()


class TurnedByHand(PatientWorker):
    """A worker without clients; the test runs each step of its loop."""

    def __init__(self, when_finished: Callable[[], None]) -> None:
        super().__init__(1, os.getpid(), [], None, 1, GunicornConfig(), None)  # type: ignore[arg-type]
        self.PIPE = os.pipe()  # type: ignore[misc, assignment]
        self._poller = DefaultSelector()
        self._poller.register(self.PIPE[0], EVENT_READ)
        self._connections = SimpleNamespace(finished=lambda *_: when_finished())  # type: ignore[assignment]
        self._finished: deque[Any] = deque()
        self._next_tick = float("inf")

    def greenlets_at(self, clock: Callable[[], float]) -> Greenlets:
        self._greenlets = Greenlets(self._wake_up, clock)
        return self._greenlets

    def finish_one(self) -> None:
        self._finished.append((None, True))

    def turn(self) -> None:
        self._loop_once()

    @property
    def would_wait(self) -> bool:
        return not self._poller.select(0)

    def close(self) -> None:
        self._poller.close()
        for end in self.PIPE:
            os.close(end)
        self.tmp.close()


def test_a_wait_that_ends_during_a_step_of_the_loop_is_seen_by_the_next(loop: Loop) -> None:
    worker = TurnedByHand(when_finished=lambda: loop.end("b"))
    with closing(worker):
        loop.greenlets = worker.greenlets_at(lambda: loop.now)
        loop.begin("a")
        loop.begin("b")
        loop.end("a")
        worker.finish_one()

        worker.turn()

        assert loop.seen == [("a", True)]
        assert not worker.would_wait
        worker.turn()
        assert loop.seen == [("a", True), ("b", True)]
