"""What runs a request, and what the server and the application tell each other about it.

The server puts an `Execution` into the WSGI environ of a request. Without one, as in most tests,
every executor is the right one.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

from webhook_api.errors import RequestRefused

EXECUTION_KEY = "webhook_api.execution"  # in a WSGI environ


class Executor(Enum):
    """What runs a request; `server/executors.py` says which, and how many threads there are."""

    LOOP = auto()  # a greenlet in the thread of the event loop, which must not block
    DELIVERY = auto()  # in a thread, and so all others
    PROBE = auto()
    PAGE = auto()  # whose cost does not grow with the data
    LONG_READ = auto()  # whose cost does
    STREAM = auto()


class RunElsewhere(BaseException):
    """The server must run the request again, in `executor`.

    Not an `Exception`, so that Flask does not make a response of it.
    """

    def __init__(self, executor: Executor) -> None:
        super().__init__(executor)
        self.executor = executor


@dataclass
class Awaited:
    """What a request waits for: messages, of which some may not concern it."""

    poll: Callable[[], object]  # changes what it returns when there are any; must not block
    seen: object  # what it returned before the request read the messages
    has_come: Callable[[], bool]  # whether one concerns the request, since the last call; blocks
    after: Any  # where the request reads on when it runs again


class RunLater(BaseException):
    """The server must run the request again when what it awaits has come, or at `deadline`.

    `deadline` is on the monotonic clock.
    """

    def __init__(self, awaited: Awaited, deadline: float) -> None:
        super().__init__(awaited, deadline)
        self.awaited = awaited
        self.deadline = deadline


@dataclass(eq=False)
class Execution:
    """One run of a request."""

    executor: Executor | None = None  # None: the server does not say
    refusal: RequestRefused | None = None  # raise this instead of calling the view
    has_client_left: Callable[[], bool] = lambda: False
    pause_s: float = 0.0  # that the response waits; the application sets it
    can_wait: bool = False  # for messages
    earlier: RunLater | None = None  # how the run before this one ended; None: it has not waited
    _claims: list[bool] = field(default_factory=lambda: [True])

    def require(self, executor: Executor) -> None:
        """Return if the request runs in `executor`.

        Raises:
            RunElsewhere: it runs somewhere else.
        """
        if self.executor not in (None, executor):
            raise RunElsewhere(executor)

    def wait_for(self, awaited: Awaited, wait_s: float) -> None:
        """Return if the request must be answered now; see `RunLater`.

        Raises:
            RunLater: it may wait, for `wait_s` seconds in all.
        """
        now = time.monotonic()
        deadline = self.earlier.deadline if self.earlier else now + wait_s
        if self.can_wait and now < deadline:
            raise RunLater(awaited, deadline)

    def claim(self) -> bool:
        """Return True once: the caller may respond, count and log. False: another one did.

        When a thread takes too long, the server responds, and the thread's response is lost.
        """
        try:
            return self._claims.pop()
        except IndexError:
            return False


def execution_of(environ: Mapping[str, Any]) -> Execution:
    """Return how the server runs the request of `environ`."""
    execution: Execution | None = environ.get(EXECUTION_KEY)
    return execution or Execution()
