"""What waits for the thread that writes: deliveries and probes, each with its own answer."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

from webhook_api.errors import Unavailable
from webhook_api.models import InboundMessage
from webhook_api.store.messages import StoreResult

Answer = list[StoreResult] | Exception
WAIT_KEY = "webhook_api.wait"  # in a WSGI environ: makes the `Wait` of a request


class Wait(Protocol):
    """How one request waits for what another thread does."""

    def start(self, hand_over: Callable[[], None]) -> None:
        """Call `hand_over`, which gives it to the other thread: now, or together with others."""

    def end(self) -> None:
        """Called by the other thread, once."""

    def until_ended(self, patience_s: float) -> bool:
        """Return if it has ended within so many seconds."""


class ThreadWait:
    """Stops the thread. A lock for each: those who wait for one queue for it when they wake."""

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
    """Return how a request is to wait; if the server does not say, its thread stops."""
    wait: Wait = environ.get(WAIT_KEY, ThreadWait)()
    return wait


class Delivery:
    """Messages to store together, and the answer that their request waits for."""

    __slots__ = ("_answer", "_wait", "given_up", "messages")

    def __init__(self, messages: Sequence[InboundMessage], wait: Wait) -> None:
        self.messages = messages
        self.given_up = False
        self._answer: Answer | None = None
        self._wait = wait

    def start(self, hand_over: Callable[["Delivery"], None]) -> None:
        """Let the thread that writes have it."""
        self._wait.start(partial(hand_over, self))

    def answer(self, answer: Answer) -> None:
        self._answer = answer
        self._wait.end()

    def wait(self, patience_s: float) -> Answer | None:
        """Return the answer, or None and give up if there is none after `patience_s`."""
        self.given_up = not self._wait.until_ended(patience_s)
        return self._answer


class Probe:
    """A write that stores no message. Any number of requests wait for its result."""

    def __init__(self, valid_s: float) -> None:
        self._valid_s = valid_s
        self._ended = threading.Event()
        self._failure: Exception | None = None
        self._valid_until = float("inf")

    def end(self, failure: Exception | None) -> None:
        self._failure = failure
        self._valid_until = time.monotonic() + self._valid_s
        self._ended.set()

    @property
    def is_valid(self) -> bool:
        return time.monotonic() < self._valid_until

    def wait(self, patience_s: float) -> bool:
        """Return whether it ended within `patience_s`; raise what it ended with, if it failed."""
        if not self._ended.wait(patience_s):
            return False
        if self._failure is not None:
            raise own_exception(self._failure)
        return True


def own_exception(error: Exception) -> Exception:
    """Return an exception for one request: a shared one would collect all their tracebacks."""
    if isinstance(error, Unavailable):
        return Unavailable(error.detail)
    failure = RuntimeError(f"the message could not be stored: {error}")
    failure.__cause__ = error
    return failure
