"""What waits for the thread that writes: deliveries and probes, each with its own answer."""

import threading
import time
from collections.abc import Callable, Sequence
from functools import partial

from webhook_api.errors import StateError, Unavailable
from webhook_api.models import InboundMessage
from webhook_api.store.consumers import Change, Consumer
from webhook_api.store.dead_letters import DeadLetter
from webhook_api.store.messages import StoreResult
from webhook_api.waiting import new_wait

Answer = list[StoreResult] | Exception


class PendingDelivery:
    """What to store together, and the answer that its request waits for."""

    __slots__ = ("_answer", "_wait", "dead_letters", "given_up", "messages", "numbers")

    def __init__(
        self,
        messages: Sequence[InboundMessage],
        dead_letters: Sequence[DeadLetter] | None = None,
    ) -> None:
        """Of a provider are those with `dead_letters`."""
        self.messages = messages
        self.dead_letters = dead_letters
        self.numbers: Sequence[int] = ()  # of the dead letters, once they are stored
        self.given_up = False
        self._answer: Answer | None = None
        self._wait = new_wait()

    @property
    def size(self) -> int:
        return len(self.messages) + len(self.dead_letters or ())

    def start(self, hand_over: Callable[["PendingDelivery"], None]) -> None:
        """Hand this delivery to the thread that writes."""
        self._wait.start(partial(hand_over, self))

    def answer(self, answer: Answer) -> None:
        self._answer = answer
        self._wait.end()

    def wait(self, patience_s: float) -> Answer | None:
        """Return the answer. None if there is none within `patience_s` seconds: it is given up."""
        self.given_up = not self._wait.until_ended(patience_s)
        return self._answer


class PendingChange:
    """A change of a consumer, and the answer that its request waits for."""

    def __init__(self, change: Change) -> None:
        self.change = change
        self.given_up = False
        self._answer: Consumer | Exception | None = None
        self._ended = threading.Event()

    def answer(self, answer: Consumer | Exception | None) -> None:
        self._answer = answer
        self._ended.set()

    def wait(self, patience_s: float) -> Consumer | Exception | None:
        """Return the answer.

        Raises:
            TimeoutError: there is none within `patience_s` seconds: it is given up.
        """
        self.given_up = not self._ended.wait(patience_s)
        if self.given_up:
            raise TimeoutError
        return self._answer


class PendingProbe:
    """A write that stores no message. Many requests may wait for its result."""

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
        """Return whether it ended within `patience_s` seconds; if it failed, raise why."""
        if not self._ended.wait(patience_s):
            return False
        if self._failure is not None:
            raise own_exception(self._failure)
        return True


def own_exception(error: Exception) -> Exception:
    """Return a copy of `error` for one request: a shared one would collect all tracebacks."""
    if isinstance(error, Unavailable):
        return Unavailable(error.detail)
    if isinstance(error, StateError):
        return error  # of one change, so nobody else has it
    failure = RuntimeError(f"the message could not be stored: {error}")
    failure.__cause__ = error
    return failure
