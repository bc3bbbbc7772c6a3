"""The threads that answer. Most requests may have any of them, the others a few at a time."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Lock

Work = Callable[[], None]
Ticket = list[Work]  # its work, until somebody takes it


class Pool:
    """So many threads, of which `shared` at most do what is not urgent.

    What waits for one of these waits in its order, and keeps no thread.
    """

    def __init__(self, threads: int, shared: int) -> None:
        self._threads = ThreadPoolExecutor(threads)
        self._shared = shared
        self._mutex = Lock()  # guards the next two
        self._busy = 0  # threads with what is not urgent
        self._waiting: deque[Ticket] = deque()

    def give(self, work: Work, *, urgent: bool) -> None:
        """Let a thread do `work`.

        Raises:
            RuntimeError: the system allows no more threads. It will not be done.
        """
        ticket = [work]
        if not urgent:
            with self._mutex:
                if self._busy == self._shared:
                    self._waiting.append(ticket)
                    return
                self._busy += 1
        try:
            self._threads.submit(_work if urgent else self._work_on, ticket)
        except RuntimeError:
            # It has been queued even so, and a thread may have begun with it.
            with suppress(IndexError):
                ticket.pop()
                raise

    def close(self) -> None:
        """Begin nothing more."""
        with self._mutex:
            self._waiting.clear()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _work_on(self, ticket: Ticket) -> None:
        """Do this, and then let a thread do what waits for its turn."""
        try:
            _work(ticket)
        finally:
            with self._mutex:
                if self._waiting:
                    # Behind what is urgent. Without a new thread this one does it, or another.
                    with suppress(RuntimeError):
                        self._threads.submit(self._work_on, self._waiting.popleft())
                else:
                    self._busy -= 1


def _work(ticket: Ticket) -> None:
    try:
        work = ticket.pop()
    except IndexError:
        return  # refused meanwhile
    work()
