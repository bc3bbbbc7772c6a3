"""How a request waits for what another thread does: with its thread, or as its server says."""

import threading
from collections.abc import Callable, Mapping
from typing import Any, Protocol

WAIT_KEY = "webhook_api.wait"  # in a WSGI environ: makes the `Wait` of a request


class Wait(Protocol):
    """How one request waits for what another thread does."""

    def start(self, hand_over: Callable[[], None]) -> None:
        """Call `hand_over`, which gives the work to the other thread: now or a little later."""

    def end(self) -> None:
        """Called by the other thread, once."""

    def until_ended(self, patience_s: float) -> bool:
        """Return whether the work ended within `patience_s` seconds."""


class ThreadWait:
    """Lets the thread wait. Each has its own lock: with one for all, they would wait in turn."""

    __slots__ = ("_ended",)

    def __init__(self) -> None:
        self._ended = threading.Lock()
        self._ended.acquire()

    def start(self, hand_over: Callable[[], None]) -> None:
        hand_over()

    def end(self) -> None:
        self._ended.release()

    def until_ended(self, patience_s: float) -> bool:
        return self._ended.acquire(timeout=patience_s)


def wait_of(environ: Mapping[str, Any]) -> Wait:
    """Return how the request waits: as the server says in `environ`, else in its thread."""
    wait: Wait = environ.get(WAIT_KEY, ThreadWait)()
    return wait
