"""How a request waits for another thread: a thread blocks, a greenlet of the event loop pauses.

Which of the two follows from the calling thread, so that nobody can stop the loop by mistake.
"""

import threading
from collections.abc import Callable
from typing import Any

import gevent
from gevent._hub_local import get_hub_if_exists


class ThreadWait:
    """Blocks the calling thread until another one has done a piece of work."""

    __slots__ = ("_ended",)

    def __init__(self) -> None:
        self._ended = threading.Event()

    def start(self, hand_over: Callable[[], None]) -> None:
        """Call `hand_over`, which gives the work to the other thread: now or a little later."""
        hand_over()

    def end(self) -> None:
        """Called by the other thread when the work has ended."""
        self._ended.set()

    def until_ended(self, timeout_s: float) -> bool:
        """Return whether the work ended within `timeout_s` seconds. May be called again."""
        return self._ended.wait(timeout_s)


class GreenletWait:
    """Does the same for a greenlet: it pauses, and the loop goes on with other clients."""

    __slots__ = ("_greenlet", "_has_ended", "_hub")

    def __init__(self, hub: Any) -> None:
        self._hub = hub
        self._has_ended = False
        self._greenlet: Any = None  # that is paused

    def start(self, hand_over: Callable[[], None]) -> None:
        # After this turn of the loop, together with the others of the turn.
        self._hub.loop.run_callback(hand_over)

    def end(self) -> None:
        self._has_ended = True
        self._hub.loop.run_callback_threadsafe(self._resume)

    def until_ended(self, timeout_s: float) -> bool:
        if not self._has_ended:
            self._greenlet = gevent.getcurrent()
            try:
                with gevent.Timeout(timeout_s, False):  # type: ignore[arg-type]
                    while not self._has_ended:
                        self._hub.switch()
            finally:
                self._greenlet = None
        return self._has_ended

    def _resume(self) -> None:
        # In the loop; unless the greenlet has stopped waiting.
        if self._greenlet is not None:
            self._greenlet.switch()


Wait = ThreadWait | GreenletWait


def new_wait() -> Wait:
    """Return a wait for the calling thread."""
    hub = get_hub_if_exists()  # of this thread; only the thread of an event loop has one
    return ThreadWait() if hub is None else GreenletWait(hub)
