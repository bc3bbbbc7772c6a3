"""What waits for the thread that writes: deliveries and probes, each with its own answer."""

import threading
import time
from collections.abc import Sequence

from webhook_api.errors import Unavailable
from webhook_api.models import InboundMessage
from webhook_api.store.messages import StoreResult

Answer = list[StoreResult] | Exception


class Delivery:
    """Messages to store together, and the answer that their request waits for.

    `_answered` is a lock that is released once, with the answer. Each delivery has its own: if
    all waited for one, they would queue for it again when they wake.
    """

    __slots__ = ("_answer", "_answered", "given_up", "messages")

    def __init__(self, messages: Sequence[InboundMessage]) -> None:
        self.messages = messages
        self.given_up = False
        self._answer: Answer | None = None
        self._answered = threading.Lock()
        self._answered.acquire()

    def answer(self, answer: Answer) -> None:
        self._answer = answer
        self._answered.release()

    def wait(self, patience_s: float) -> Answer | None:
        """Return the answer, or None and give up if there is none after `patience_s`."""
        self.given_up = not self._answered.acquire(timeout=patience_s)
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
