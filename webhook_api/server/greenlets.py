"""Requests that need no thread: each runs in a greenlet, in the event loop's own thread.

A delivery computes for a moment, and then waits for the disk. With a thread for each, the switch
to it and back costs as much as the rest. A greenlet pauses where the synchronous code waits, and
the loop goes on with the next client. At the end of each step, the loop hands its deliveries to
the thread that writes, all at once. Work that may block or compute for long must not run here.
"""

import time
from collections import deque
from collections.abc import Callable

from greenlet import getcurrent, greenlet


class Greenlets:
    """The requests that run in the event loop's thread. Other threads call only `ended`."""

    def __init__(
        self, wake_up: Callable[[], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Other threads call `wake_up` when a wait has ended; the loop must then call `resume`."""
        self._wake_up = wake_up
        self._clock = clock
        self._waiting: dict[GreenletWait, None] = {}
        self._earliest = float("inf")  # no deadline of these is before it
        self._handed_over: list[Callable[[], None]] = []
        self._ended: deque[GreenletWait] = deque()
        self._woken = False

    def run(self, work: Callable[[], object]) -> None:
        """Do `work` in a greenlet; return when it has ended, or as soon as it waits."""
        greenlet(work).switch()

    def wait(self) -> "GreenletWait":
        """Return a `Wait` for the current greenlet."""
        return GreenletWait(self)

    def hand_over(self) -> None:
        """Hand all that was started since the last call to the other threads, together."""
        handed_over, self._handed_over = self._handed_over, []
        for start in handed_over:
            start()

    def resume(self) -> None:
        """Continue the greenlets whose wait has ended or is over its deadline."""
        self._woken = False
        while self._ended:
            self._ended.popleft().resume()
        now = self._clock()
        if now >= self._earliest:
            for wait in [wait for wait in self._waiting if wait.deadline <= now]:
                wait.resume()
            self._earliest = min((wait.deadline for wait in self._waiting), default=float("inf"))

    def idle_s(self, most: float) -> float:
        """Return in how many seconds `resume` must be called, but not more than `most`."""
        return max(0.0, min(most, self._earliest - self._clock()))

    def started(self, start: Callable[[], None]) -> None:
        """See `GreenletWait.start`."""
        self._handed_over.append(start)

    def suspend(self, wait: "GreenletWait", patience_s: float) -> None:
        """Pause the current greenlet, and let the loop go on; return when `resume` continues it."""
        wait.deadline = self._clock() + patience_s
        self._earliest = min(self._earliest, wait.deadline)
        self._waiting[wait] = None
        loop = getcurrent().parent
        assert loop is not None
        try:
            loop.switch()
        finally:
            del self._waiting[wait]

    def ended(self, wait: "GreenletWait") -> None:
        """See `GreenletWait.end`."""
        self._ended.append(wait)
        if not self._woken:  # The first of a batch wakes the loop for all of it.
            self._woken = True
            self._wake_up()


class GreenletWait:
    """How one greenlet waits for another thread; see `intake.waiting.Wait`."""

    __slots__ = ("_greenlets", "_has_ended", "_suspended", "deadline")

    def __init__(self, greenlets: Greenlets) -> None:
        self.deadline = 0.0
        self._greenlets = greenlets
        self._has_ended = False
        self._suspended: greenlet | None = None

    def start(self, hand_over: Callable[[], None]) -> None:
        """Hand the work over at the end of this step of the loop."""
        self._greenlets.started(hand_over)

    def end(self) -> None:
        """Mark the work as ended. Called by the other thread."""
        self._has_ended = True
        self._greenlets.ended(self)

    def until_ended(self, patience_s: float) -> bool:
        """Return whether the work ended within `patience_s` seconds."""
        if not self._has_ended:
            self._suspended = getcurrent()
            self._greenlets.suspend(self, patience_s)
            self._suspended = None
        return self._has_ended

    def resume(self) -> None:
        """Continue the greenlet, unless it has given up."""
        if self._suspended is not None:
            self._suspended.switch()
