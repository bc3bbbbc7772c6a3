"""How a request waits for another thread: a thread blocks, a greenlet of the event loop pauses.

Which of the two follows from the calling thread, so that nobody can stop the loop by mistake.
"""

import threading
from collections import deque
from collections.abc import Callable
from functools import cache
from typing import Any, Protocol

import gevent
from gevent._hub_local import get_hub_if_exists


class Wait(Protocol):
    """Waits for one piece of work of another thread."""

    def start(self, hand_over: Callable[[], None]) -> None:
        """Call `hand_over`, which gives the work to the other thread: now or a little later."""

    def end(self) -> None:
        """Called by the other thread when the work has ended."""

    def until_ended(self, timeout_s: float) -> bool:
        """Return whether the work ended within `timeout_s` seconds. May be called again."""


def new_wait() -> Wait:
    """Return a wait for the calling thread."""
    hub = get_hub_if_exists()  # of this thread; only the thread of an event loop has one
    return ThreadWait() if hub is None else GreenletWait(_signals_of(hub))


class ThreadWait:
    """Blocks the calling thread."""

    __slots__ = ("_ended",)

    def __init__(self) -> None:
        self._ended = threading.Event()

    def start(self, hand_over: Callable[[], None]) -> None:
        hand_over()

    def end(self) -> None:
        self._ended.set()

    def until_ended(self, timeout_s: float) -> bool:
        return self._ended.wait(timeout_s)


class GreenletWait:
    """Pauses the calling greenlet; the loop goes on with other clients."""

    __slots__ = ("_greenlet", "_has_ended", "_signals")

    def __init__(self, signals: "_Signals") -> None:
        self._signals = signals
        self._has_ended = False
        self._greenlet: Any = None  # that is paused

    def start(self, hand_over: Callable[[], None]) -> None:
        self._signals.hand_over(hand_over)

    def end(self) -> None:
        self._has_ended = True
        self._signals.ended(self)

    def until_ended(self, timeout_s: float) -> bool:
        if not self._has_ended:
            self._greenlet = gevent.getcurrent()
            try:
                with gevent.Timeout(timeout_s, False):  # type: ignore[arg-type]
                    while not self._has_ended:
                        gevent.get_hub().switch()
            finally:
                self._greenlet = None
        return self._has_ended

    def resume(self) -> None:
        """Continue the greenlet, unless it has stopped waiting. Called by the loop."""
        if self._greenlet is not None:
            self._greenlet.switch()


class _Signals:
    """What crosses between the loop's thread and others, many at a time in both directions.

    Of gevent, only `async_.send` may be called by another thread.
    """

    def __init__(self, hub: Any) -> None:
        self._loop = hub.loop
        self._handed_over: list[Callable[[], None]] = []
        self._ended: deque[GreenletWait] = deque()
        self._wake_up = hub.loop.async_()
        self._wake_up.start(self._resume)

    def hand_over(self, start: Callable[[], None]) -> None:
        """Call `start` after this turn of the loop, together with the others of the turn."""
        if not self._handed_over:
            self._loop.run_callback(self._start)
        self._handed_over.append(start)

    def ended(self, wait: GreenletWait) -> None:
        """Resume `wait` in the loop. Called by any thread."""
        self._ended.append(wait)
        self._wake_up.send()

    def _start(self) -> None:
        handed_over, self._handed_over = self._handed_over, []
        for start in handed_over:
            start()

    def _resume(self) -> None:
        while self._ended:
            self._ended.popleft().resume()


@cache
def _signals_of(hub: Any) -> _Signals:
    return _Signals(hub)
