"""Lanes: threads for what may take long, a few at a time, each job watched by who waits for it."""

import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Generic, TypeVar

from webhook_api.errors import Unavailable
from webhook_api.store.connections import Connection

_NICENESS = 10  # of a lane's thread: the processor is for deliveries and probes first
LOOK_S = 0.05  # from one look at a job to the next

T = TypeVar("T")


class Stopped(Exception):
    """A job did not come to its end; `reason` is what its watch said."""

    def __init__(self, reason: Any) -> None:
        super().__init__(reason)
        self.reason = reason


class Job(Generic[T]):
    """Something that a thread of a lane does once, and what came of it."""

    def __init__(self, work: "Callable[[Job[T]], T]") -> None:
        self._work = work
        self._mutex = threading.Lock()  # guards the next one
        self._connection: Connection | None = None
        self._stopped = False
        self._result: T
        self._error: BaseException | None = None
        self.started_at: float | None = None
        self.ended = threading.Event()

    def run(self) -> None:
        """Do the work. Never raises: that is for who waits."""
        self.started_at = time.monotonic()
        try:
            self._result = self._work(self)
        except BaseException as error:
            self._error = error
        self.ended.set()

    def outcome(self) -> T:
        """Return or raise what the work did."""
        if self._error is None:
            return self._result
        try:
            raise self._error
        finally:
            self._error = None  # or the traceback would keep itself alive

    @contextmanager
    def using(self, connection: Connection) -> Iterator[Connection]:
        """Let `stop` interrupt what `connection` does in the `with` block, and nothing later."""
        with self._mutex:
            if self._stopped:
                raise Stopped("before it began")
            self._connection = connection
        try:
            yield connection
        finally:
            with self._mutex:
                self._connection = None

    def stop(self) -> None:
        """Interrupt the work. SQLite forgets that between two statements: repeat it."""
        with self._mutex:
            self._stopped = True
            if self._connection is not None:
                self._connection.interrupt()


class Lane:
    """Runs jobs in the order they come, `most` at once, in threads that end when all is done."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._mutex = threading.Lock()  # guards the next two
        self._waiting: deque[Job[Any]] = deque()
        self._threads = 0

    def run(
        self,
        work: Callable[[Job[T]], T],
        why_stop: Callable[[Job[T]], object],
        *,
        leave_after_s: float | None,
    ) -> T:
        """Return what `work` returns, unless `why_stop`, asked often, gives a reason to stop it.

        A stopped job is left behind after `leave_after_s`; None: it is waited for.

        Raises:
            Stopped: there was such a reason.
            Unavailable: the system allows no more threads.
        """
        job = Job(work)
        reason = why_stop(job)
        if not reason:
            self._start(job)
            while not job.ended.wait(LOOK_S):
                if reason := why_stop(job):
                    self._stop(job, leave_after_s)
                    break
            else:
                return job.outcome()
        raise Stopped(reason)

    def _stop(self, job: Job[T], leave_after_s: float | None) -> None:
        if self._withdraw(job):
            return
        stopped_at = time.monotonic()
        while leave_after_s is None or time.monotonic() - stopped_at < leave_after_s:
            job.stop()
            if job.ended.wait(LOOK_S):
                return

    def _start(self, job: Job[T]) -> None:
        with self._mutex:
            self._waiting.append(job)
            if self._threads == self._most:
                return
            self._threads += 1
        try:
            threading.Thread(target=self._work, name="reader", daemon=True).start()
        except RuntimeError:
            with self._mutex:
                self._threads -= 1
            if self._withdraw(job):
                raise Unavailable("the system allows no more threads") from None

    def _withdraw(self, job: Job[T]) -> bool:
        """Take `job` off the list; False if it was started."""
        with self._mutex, suppress(ValueError):
            self._waiting.remove(job)
            return True
        return False

    def _work(self) -> None:
        if sys.platform == "linux":
            # Of this thread alone, which no other work will have: elsewhere it is the process's.
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
        while True:
            with self._mutex:
                if not self._waiting:
                    self._threads -= 1
                    return
                job = self._waiting.popleft()
            job.run()
