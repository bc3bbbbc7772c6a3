"""Requests that wait for messages: greenlets, without a thread, a transaction or any SQL."""

import time
from collections.abc import Callable

import gevent
from gevent.event import Event

from webhook_api.errors import ClientLeft, RequestRefused, Unavailable
from webhook_api.execution import RunLater
from webhook_api.outcome import NotServed

MAX_WAITING = 64  # in one process
_POLL_EVERY_S = 0.025
_CHECK_CLIENT_S = 0.5
_PAUSE_S = 0.07  # after a poll in vain: with a filter, each message resumes all that wait


class Arrivals:
    """Resumes all that wait when a process has stored messages. It polls only while some wait."""

    def __init__(self, report: Callable[[int], None]) -> None:
        """Tell `report` how many wait, whenever that changes."""
        self._report = report
        self._waiting: dict[Event, RunLater] = {}
        self._is_polling = False
        self._has_ended = False

    def wait(
        self, later: RunLater, has_client_left: Callable[[], bool], *, again: bool
    ) -> RequestRefused | None:
        """Return when the request must run again, or why it must be refused.

        A message that was stored since the request read has changed what it saw, so it is
        noticed at the first poll. With `again`, it has waited before, and found nothing since.
        """
        if len(self._waiting) >= MAX_WAITING:
            return Unavailable("too many requests wait for messages", NotServed.NO_TURN)
        resumed = Event()
        self._waiting[resumed] = later
        self._report(len(self._waiting))
        if not self._is_polling:
            self._is_polling = True
            gevent.spawn(self._poll)
        try:
            if again:
                gevent.sleep(_PAUSE_S)
            while not (resumed.is_set() or self._has_ended):
                left_s = later.deadline - time.monotonic()
                if left_s <= 0:
                    break
                resumed.wait(min(left_s, _CHECK_CLIENT_S))
                if has_client_left():
                    return ClientLeft()
        finally:
            del self._waiting[resumed]
            self._report(len(self._waiting))
        return None

    def end(self) -> None:
        """Resume all now, and let nobody wait any more."""
        self._has_ended = True
        for resumed in self._waiting:
            resumed.set()

    def _poll(self) -> None:
        """While requests wait, poll again and again what changes when a message is stored."""
        while self._waiting:
            gevent.sleep(_POLL_EVERY_S)
            states = {later.poll: later.poll() for later in self._waiting.values()}
            for resumed, later in self._waiting.items():
                if states[later.poll] != later.seen:
                    resumed.set()
        self._is_polling = False
