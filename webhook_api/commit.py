"""Group commit: deliveries that arrive together are put on disk together.

A request hands its message to the one thread of its process that writes, and waits for the
answer until its deadline, whatever that thread is doing. A batch is what arrived during the last
sync; a lone delivery waits for nobody. The search index and checkpoints are that thread's
business too, after the answers.
"""

import logging
import sqlite3
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from itertools import islice
from queue import Empty, SimpleQueue
from typing import Protocol

from webhook_api import storage
from webhook_api.db import Connection, Database
from webhook_api.errors import Unavailable
from webhook_api.models import InboundMessage
from webhook_api.schema import SchemaError
from webhook_api.storage import StoreResult
from webhook_api.writer import FAULTS_OF_A_ROW, Writer

logger = logging.getLogger(__name__)

MAX_BATCH = 64  # messages in one transaction, and as many more as one delivery holds
STALL_S = 0.5  # without a commit, after which it is overload to have many waiting
PROBE_VALID_S = 1.0  # how long the result of a probe is told to others
_CLOSE_PATIENCE_S = 1.0


class Observer(Protocol):
    """Is told what a `GroupCommit` does."""

    def waiting(self, deliveries: int) -> None:
        """So many deliveries now wait for the disk in this process."""

    def committed(self, messages: int, seconds: float) -> None:
        """So many messages were put on disk together, which took so long."""


class _Delivery:
    """Messages to store together, and the answer that their request waits for.

    `_answered` is a lock that is released once, with the answer. Each delivery has its own: if
    all waited for one, they would queue for it again when they wake.
    """

    __slots__ = ("_answer", "_answered", "given_up", "messages")

    def __init__(self, messages: Sequence[InboundMessage]) -> None:
        self.messages = messages
        self.given_up = False
        self._answer: _Answer | None = None
        self._answered = threading.Lock()
        self._answered.acquire()

    def answer(self, answer: "_Answer") -> None:
        self._answer = answer
        self._answered.release()

    def wait(self, patience_s: float) -> "_Answer | None":
        """Return the answer, or None and give up if there is none after `patience_s`."""
        self.given_up = not self._answered.acquire(timeout=patience_s)
        return self._answer


_Answer = list[StoreResult] | Exception


class _Probe:
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
            raise _own(self._failure)
        return True


class GroupCommit:
    """Stores messages durably for all threads of one process."""

    def __init__(
        self,
        database: Database,
        observer: Observer,
        *,
        deadline_s: float,
        max_waiting: int,
        writer: Writer | None = None,
        probe_valid_s: float = PROBE_VALID_S,
        close_patience_s: float = _CLOSE_PATIENCE_S,
    ) -> None:
        """Let `max_waiting` deliveries wait for `deadline_s`, and more of them for STALL_S."""
        self._database = database
        self._writer = writer or Writer(database)
        self._observer = observer
        self._deadline_s = deadline_s
        self._max_waiting = max_waiting
        self._probe_valid_s = probe_valid_s
        self._close_patience_s = close_patience_s
        self._queue: SimpleQueue[_Delivery | _Probe | None] = SimpleQueue()  # None: stop
        self._mutex = threading.Lock()  # guards the next five; never held while waiting
        self._waiting = 0
        self._stalled_since = 0.0
        self._closed = False
        self._probe: _Probe | None = None
        self._thread: threading.Thread | None = None
        self._deliveries: list[_Delivery] = []  # these three belong to the thread: taken from
        self._probes: list[_Probe] = []  # the queue, and not answered yet
        self._stopping = False

    def store(self, messages: Sequence[InboundMessage]) -> list[StoreResult]:
        """Return what became of each of `messages`, once all are on disk: all of them or none.

        Raises:
            Unavailable: they were not before the deadline, too many others wait, or the process
                is stopping. They may still get there; delivered again, they are duplicates.
        """
        delivery = _Delivery(messages)
        patience_s = self._enter(delivery)
        try:
            answer = delivery.wait(patience_s)
        finally:
            self._leave()
        if isinstance(answer, list):
            return answer
        raise self._waited_too_long() if answer is None else _own(answer)

    def check(self, deadline_s: float) -> None:
        """Return when a message could be stored now: some bytes were written and synced.

        The result is at most PROBE_VALID_S seconds old.

        Raises:
            Unavailable: none could.
        """
        # A few bytes may still fit where a message does not.
        self._database.check_room()
        with self._mutex:
            if self._probe is None or not self._probe.is_valid:
                probe = _Probe(self._probe_valid_s)
                self._submit(probe)
                self._probe = probe
            probe = self._probe
        if not probe.wait(deadline_s):
            raise self._waited_too_long()

    def close(self) -> None:
        """Refuse what comes from now on, and close the writing connection."""
        with self._mutex:
            self._closed = True
            self._queue.put(None)
        if self._thread is not None:
            # It may be stuck in a sync for ever, and it is a daemon.
            self._thread.join(2 * self._close_patience_s)

    def _waited_too_long(self) -> Unavailable:
        return Unavailable(f"database: waited too long for {self._writer.waits_for}")

    def _enter(self, delivery: _Delivery) -> float:
        """Hand `delivery` to the thread that writes; return how many seconds it may wait.

        A burst is no overload: it is on disk after a commit or two. But when those stall, all
        the threads of a process must not end up waiting.
        """
        with self._mutex:
            now = time.monotonic()
            patience_s = self._deadline_s
            if self._waiting == 0:
                self._stalled_since = now
            elif self._waiting >= self._max_waiting:
                if now - self._stalled_since > STALL_S:
                    raise Unavailable("too many deliveries are waiting for the disk")
                patience_s = min(patience_s, STALL_S)
            self._submit(delivery)
            self._waiting += 1
            self._observer.waiting(self._waiting)
            return patience_s

    def _submit(self, job: _Delivery | _Probe) -> None:
        if self._closed:
            raise Unavailable("the service is shutting down")
        if self._thread is None or not self._thread.is_alive():
            thread = threading.Thread(target=self._run, name="writer", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:
                raise Unavailable(f"the thread that writes did not start: {error}") from None
            self._thread = thread
        self._queue.put(job)

    def _leave(self) -> None:
        with self._mutex:
            self._waiting -= 1
            self._observer.waiting(self._waiting)

    def _run(self) -> None:
        """Write what arrives, until the end."""
        while not self._stopping:
            self._take(self._queue.get())
            try:
                self._writer.write(self._commit)
            except sqlite3.Error as error:
                self._fail(Unavailable(f"database: {error}"))
            except SchemaError as error:
                self._fail(Unavailable(f"database: {error}"))
            except OSError as error:
                self._fail(Unavailable(f"database: {error.strerror}"))
            except Exception as error:
                # Whatever it is, nobody may wait for it, and the next delivery is written.
                self._fail(error)
        self._writer.close(patience_s=self._close_patience_s)

    def _take(self, job: _Delivery | _Probe | None) -> None:
        if isinstance(job, _Delivery):
            self._deliveries.append(job)
        elif job is None:
            self._stopping = True
        else:
            self._probes.append(job)

    def _take_all(self) -> None:
        """Take what is waiting, as far as it fits in a batch."""
        with suppress(Empty):
            while sum(len(job.messages) for job in self._deliveries) < MAX_BATCH:
                self._take(self._queue.get_nowait())
        self._deliveries = [job for job in self._deliveries if not job.given_up]

    def _commit(self, connection: Connection) -> None:
        """Store a batch and answer it; then do what can be done after the answers."""
        self._take_all()
        if self._deliveries:
            self._answer(self._store(connection, self._deliveries))
        if self._probes:
            storage.probe(connection)
            self._end_probes(None)
        self._writer.do_upkeep(connection)

    def _store(self, connection: Connection, deliveries: list[_Delivery]) -> list[_Answer]:
        """Store all that `deliveries` hold together; or one by one, if one cannot be stored."""
        messages = [message for delivery in deliveries for message in delivery.messages]
        started = time.perf_counter()
        try:
            results = iter(self._writer.store(connection, messages))
        except FAULTS_OF_A_ROW as error:
            if len(deliveries) == 1:
                return [error]
            return [self._store(connection, [delivery])[0] for delivery in deliveries]
        self._observer.committed(len(messages), time.perf_counter() - started)
        return [list(islice(results, len(delivery.messages))) for delivery in deliveries]

    def _answer(self, answers: Sequence[_Answer]) -> None:
        self._stalled_since = time.monotonic()
        answered, self._deliveries = self._deliveries, []
        for delivery, answer in zip(answered, answers, strict=True):
            delivery.answer(answer)

    def _end_probes(self, failure: Exception | None) -> None:
        ended, self._probes = self._probes, []
        for probe in ended:
            probe.end(failure)

    def _fail(self, error: Exception) -> None:
        """Answer everything that waits with `error`."""
        self._take_all()
        if not self._deliveries and not self._probes:
            # The messages are safe. It is tried again after as many more.
            logger.warning("upkeep of the database failed: %s", error)
        self._answer([error] * len(self._deliveries))
        self._end_probes(error)


def _own(error: Exception) -> Exception:
    """Return an exception for one request: a shared one would collect all their tracebacks."""
    if isinstance(error, Unavailable):
        return Unavailable(error.detail)
    failure = RuntimeError(f"the message could not be stored: {error}")
    failure.__cause__ = error
    return failure
