"""Requests that wait for messages: greenlets, without a thread or a transaction.

They cost no SQL while nothing arrives. When something does, a thread asks for all of them whether
it concerns them: to run each request again would take longer than the deliveries themselves.
"""

import time
from collections.abc import Callable

import gevent
from gevent.event import Event

from webhook_api.errors import ClientLeft, RequestRefused, Unavailable
from webhook_api.execution import Awaited, RunLater
from webhook_api.outcome import NotServed
from webhook_api.server.executors import NotRun, Threads

MAX_WAITING = 64  # in one process
_POLL_EVERY_S = 0.025
_CHECK_CLIENT_S = 0.5
_PAUSE_S = 0.045  # more, after messages that concerned none


class Arrivals:
    """Resumes requests when a process has stored messages. It polls only while some wait."""

    def __init__(self, threads: Threads, report: Callable[[int], None]) -> None:
        """Tell `report` how many wait, whenever that changes."""
        self._threads = threads
        self._report = report
        self._waiting: dict[Event, Awaited] = {}
        self._is_polling = False
        self._has_ended = False

    def wait(self, later: RunLater, has_client_left: Callable[[], bool]) -> RequestRefused | None:
        """Return when the request must run again, or why it must be refused.

        A message that was stored since the request read has changed what it saw, so it is
        noticed at the first poll.
        """
        if len(self._waiting) >= MAX_WAITING:
            return Unavailable("too many requests wait for messages", NotServed.NO_TURN)
        resumed = Event()
        self._waiting[resumed] = later.awaited
        self._report(len(self._waiting))
        if not self._is_polling:
            self._is_polling = True
            gevent.spawn(self._poll)
        try:
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
            states = {awaited.poll: awaited.poll() for awaited in self._waiting.values()}
            changed = {
                resumed: awaited
                for resumed, awaited in self._waiting.items()
                if states[awaited.poll] != awaited.seen
            }
            if changed:
                for awaited in changed.values():
                    awaited.seen = states[awaited.poll]
                if not self._resume(changed):
                    gevent.sleep(_PAUSE_S)
        self._is_polling = False

    def _resume(self, changed: dict[Event, Awaited]) -> bool:
        """Resume the requests that a new message concerns; return whether there is one."""
        try:
            concerned = self._threads.run(
                lambda: [awaited.has_come() for awaited in changed.values()]
            )
        except NotRun:
            concerned = [True] * len(changed)  # each finds out by itself
        for resumed, is_concerned in zip(changed, concerned, strict=True):
            if is_concerned:
                resumed.set()
        return any(concerned)
