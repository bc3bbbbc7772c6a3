"""The threads that answer requests. Requests of some kinds may have only a few of them."""

import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Lock

from webhook_api.shares import Kind, Share

Work = Callable[[], None]


class _Ticket:
    """Work that a thread does, or the event loop refuses: who takes it out of `work` first."""

    __slots__ = ("arrived_at", "kind", "when_late", "work")

    def __init__(self, kind: Kind | None, work: Work, when_late: Work, arrived_at: float) -> None:
        self.kind = kind
        self.work: list[Work] = [work]
        self.when_late = when_late
        self.arrived_at = arrived_at


class Pool:
    """`threads` threads. All requests that have a kind may use `shared` of them together.

    And those of one kind may use only the share of that kind.

    Requests that wait for a thread begin in the order of their arrival.
    """

    def __init__(
        self,
        threads: int,
        shared: int,
        shares: Mapping[Kind, Share],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._threads = ThreadPoolExecutor(threads)
        self._shared = shared
        self._shares = shares
        self._clock = clock
        self._mutex = Lock()  # guards the next two
        self._busy = Counter[Kind]()  # threads
        self._waiting: dict[Kind, deque[_Ticket]] = {kind: deque() for kind in shares}

    def give(self, work: Work, kind: Kind | None, when_late: Work) -> None:
        """Let a thread do `work`. If it waits too long, `expire` calls `when_late` instead.

        Raises:
            RuntimeError: the system allows no more threads. The work is not done.
        """
        ticket = _Ticket(kind, work, when_late, self._clock())
        if kind is not None:
            with self._mutex:
                if not self._has_thread_for(kind):
                    self._waiting[kind].append(ticket)
                    return
                self._busy[kind] += 1
        try:
            self._threads.submit(self._work_on, ticket)
        except RuntimeError:
            # The executor has queued it all the same, and a thread may have begun with it.
            with suppress(IndexError):
                ticket.work.pop()
                raise

    def expire(self) -> None:
        """Call `when_late`, in this thread, for all that has waited too long."""
        now = self._clock()
        late: list[_Ticket] = []
        with self._mutex:
            for kind, waiting in self._waiting.items():
                while waiting and now - waiting[0].arrived_at > self._shares[kind].wait_s:
                    late.append(waiting.popleft())
        for ticket in late:
            ticket.when_late()

    def close(self) -> None:
        """Begin no more work."""
        with self._mutex:
            for waiting in self._waiting.values():
                waiting.clear()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _has_thread_for(self, kind: Kind) -> bool:
        return self._busy[kind] < self._shares[kind].threads and self._busy.total() < self._shared

    def _work_on(self, ticket: _Ticket) -> None:
        """Do the work of `ticket`, and then submit the next that waits."""
        try:
            try:
                work = ticket.work.pop()
            except IndexError:
                return  # refused meanwhile
            work()
        finally:
            if ticket.kind is not None:
                self._begin_next(ticket.kind)

    def _begin_next(self, done: Kind) -> None:
        with self._mutex:
            self._busy[done] -= 1
            first = [
                queue[0]
                for kind, queue in self._waiting.items()
                if queue and self._has_thread_for(kind)
            ]
            if not first:
                return
            ticket = min(first, key=lambda ticket: ticket.arrived_at)
            kind = ticket.kind
            assert kind is not None
            self._waiting[kind].popleft()
            self._busy[kind] += 1
            # It comes after urgent requests. If no thread can be started, an existing one does it.
            with suppress(RuntimeError):
                self._threads.submit(self._work_on, ticket)
