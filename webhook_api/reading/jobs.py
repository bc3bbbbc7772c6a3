"""Jobs that may take long: a few threads do them in turn, and their callers can stop them."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Generic, TypeVar

from webhook_api.errors import Unavailable
from webhook_api.store.background import be_nice
from webhook_api.store.connections import Connection

LOOK_S = 0.05  # how often a caller looks whether to stop its job

T = TypeVar("T")


class Stopped(Exception):
    """A job was stopped before its end; `reason` says why."""

    def __init__(self, reason: Any) -> None:
        super().__init__(reason)
        self.reason = reason


class Job(Generic[T]):
    """Work that a thread of a `JobQueue` does once, and its result."""

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
        """Do the work. It raises nothing: `result` does, for the caller."""
        self.started_at = time.monotonic()
        try:
            self._result = self._work(self)
        except BaseException as error:
            self._error = error
        self.ended.set()

    def result(self) -> T:
        """Return what the work returned, or raise what it raised."""
        if self._error is None:
            return self._result
        try:
            raise self._error
        finally:
            self._error = None  # the traceback refers to this job: a cycle in memory

    @contextmanager
    def using(self, connection: Connection) -> Iterator[Connection]:
        """Let `stop` interrupt `connection` during the `with` block, and not later."""
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
        """Interrupt the work. Call it repeatedly: between two statements it has no effect."""
        with self._mutex:
            self._stopped = True
            if self._connection is not None:
                self._connection.interrupt()


class JobQueue:
    """Runs jobs in their order, `most` at once, in threads that end when all are done."""

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
        """Return what `work` returns. `why_stop` is called often, and may give a reason to stop.

        If a stopped job does not end within `leave_after_s` seconds, this returns without it;
        None: it waits until the job has ended.

        Raises:
            Stopped: there was a reason to stop.
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
                return job.result()
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
        """Take `job` out of the queue; return False if it was started."""
        with self._mutex, suppress(ValueError):
            self._waiting.remove(job)
            return True
        return False

    def _work(self) -> None:
        be_nice()
        while True:
            with self._mutex:
                if not self._waiting:
                    self._threads -= 1
                    return
                job = self._waiting.popleft()
            job.run()
