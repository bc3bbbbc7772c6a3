"""Group commit: deliveries that arrive together are put on disk together.

A request hands its message to the one thread of its process that writes, and waits for the
outcome, until its deadline at most. A batch is what arrived during the last sync; a lone delivery
waits for nobody. With a replica, the outcomes of a batch are told when the replica has it, see
`replica.py`. After that the thread indexes and makes checkpoints, and does the tasks of
`maintenance/background_tasks.py`.
"""

import logging
import math
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from itertools import chain, islice
from queue import Empty, SimpleQueue
from typing import Generic, Protocol, Self, TypeVar

from webhook_api.errors import SchemaError, StateError, Unavailable
from webhook_api.intake.replica import Batch, Callback, Replica, refusal_of
from webhook_api.maintenance.background_tasks import BackgroundTasks
from webhook_api.models import InboundMessage
from webhook_api.store.connections import FAULTS_OF_A_ROW
from webhook_api.store.database import Database
from webhook_api.store.dead_letters import DeadLetter, DeadLettersFull
from webhook_api.store.lock import LockedConnection, transaction
from webhook_api.store.messages import StoreResult, write_probe
from webhook_api.store.positions import Change, Consumer, end_of
from webhook_api.store.writer import Writer
from webhook_api.waiting import ThreadWait, Wait, new_wait

logger = logging.getLogger(__name__)

MAX_BATCH = 64  # messages in one transaction, after which no further delivery is added
STALL_S = 0.5  # without a commit; then a delivery beyond `max_waiting` is refused
PROBE_VALID_S = 1.0  # how long other requests get the result of a probe
_CLOSE_TIMEOUT_S = 1.0

T = TypeVar("T")


class CommitObserver(Protocol):
    """Is told what a `GroupCommit` does: the metrics."""

    def waiting(self, deliveries: int) -> None:
        """`deliveries` of this process now wait for the disk."""

    def committed(self, messages: int, seconds: float) -> None:
        """`messages` were put on disk together, in so many `seconds`."""


class Pending(Generic[T]):
    """Work for the thread that writes, and the outcome that a request waits for."""

    __slots__ = ("_outcome", "_wait", "given_up", "size")

    _outcome: T | Exception

    def __init__(self, wait: Wait, size: int = 0) -> None:
        """It stores `size` rows."""
        self.size = size
        self.given_up = False  # nobody waits for it any more
        self._wait = wait

    def start(self, hand_over: Callable[[Self], None]) -> None:
        """Give this to the thread that writes."""
        self._wait.start(partial(hand_over, self))

    def end(self, outcome: T | Exception, failure: Exception | None = None) -> None:
        """Tell the outcome, or why it is not acknowledged."""
        self._outcome = failure or outcome
        self._wait.end()

    def wait(self, timeout_s: float) -> T:
        """Return the outcome, or raise it.

        Raises:
            TimeoutError: there is none within `timeout_s` seconds.
        """
        if not self._wait.until_ended(timeout_s):
            raise TimeoutError
        if isinstance(self._outcome, Exception):
            raise own_exception(self._outcome)
        return self._outcome


class PendingDelivery(Pending[list[StoreResult]]):
    """What to store together."""

    __slots__ = ("dead_letters", "messages", "numbers")

    def __init__(
        self, messages: Sequence[InboundMessage], dead_letters: Sequence[DeadLetter] = ()
    ) -> None:
        super().__init__(new_wait(), len(messages) + len(dead_letters))
        self.messages = messages
        self.dead_letters = dead_letters
        self.numbers: Sequence[int] = ()  # of the dead letters, once they are stored


class PendingChange(Pending[Consumer | None]):
    """A small change, such as of a consumer. Only threads wait for it."""

    def __init__(self, change: Change) -> None:
        super().__init__(ThreadWait())
        self.change = change


class PendingProbe(PendingChange):
    """A write that stores no message. Many requests may wait for its outcome."""

    def __init__(self) -> None:
        super().__init__(write_probe)
        self.ended_at = math.inf  # on the monotonic clock

    def end(self, outcome: Consumer | Exception | None, failure: Exception | None = None) -> None:
        self.ended_at = time.monotonic()
        super().end(outcome, failure)


def own_exception(error: Exception) -> Exception:
    """Return a copy of `error` for one request: a shared one would collect all tracebacks."""
    if isinstance(error, Unavailable):
        return Unavailable(error.detail)
    if isinstance(error, StateError):
        return error  # of one change, so nobody else has it
    failure = RuntimeError(f"the message could not be stored: {error}")
    failure.__cause__ = error
    return failure


class GroupCommit:
    """Stores messages durably for all requests of one process."""

    def __init__(
        self,
        database: Database,
        observer: CommitObserver,
        *,
        deadline_s: float,
        max_waiting: int,
        writer: Writer | None = None,
        replica: Replica | None = None,
        retention_days: int = 0,
        probe_valid_s: float = PROBE_VALID_S,
        close_timeout_s: float = _CLOSE_TIMEOUT_S,
    ) -> None:
        """Let `max_waiting` deliveries wait up to `deadline_s`, and further ones up to STALL_S.

        With a `replica`, whatever is written is acknowledged when that has it.
        """
        self._writer = writer or Writer(database)
        self._tasks = BackgroundTasks(database, self._writer, retention_days=retention_days)
        self._replica = replica
        self._observer = observer
        self._deadline_s = deadline_s
        self._max_waiting = max_waiting
        self._probe_valid_s = probe_valid_s
        self._close_timeout_s = close_timeout_s
        self._queue: SimpleQueue[PendingDelivery | PendingChange | None] = SimpleQueue()
        self._mutex = threading.Lock()  # guards the next five; nobody waits while holding it
        self._waiting = 0
        self._stalled_since = 0.0
        self._closed = False
        self._probe: PendingProbe | None = None
        self._thread: threading.Thread | None = None
        # Only the writing thread uses these: what it took from the queue and has not ended.
        self._deliveries: list[PendingDelivery] = []
        self._changes: list[PendingChange] = []
        self._callbacks: list[Callback] = []  # called when the replica has what was committed
        self._seen_in_replica = 0
        self._stopping = False

    def start(self) -> None:
        """Start the thread that writes, for its tasks; else the first delivery starts it."""
        with suppress(Unavailable), self._mutex:
            self._start_thread()

    def store(self, messages: Sequence[InboundMessage]) -> list[StoreResult]:
        """Return what became of each of `messages`, once all are on disk: all of them or none.

        Raises:
            Unavailable: they were not on disk before the deadline, too many others wait, or the
                process is stopping. They may still be stored; then a repeat is a duplicate.
        """
        return self._store_durably(PendingDelivery(messages))

    def store_all(
        self, messages: Sequence[InboundMessage], dead_letters: Sequence[DeadLetter]
    ) -> tuple[list[StoreResult], Sequence[int]]:
        """Do the same with dead letters; return their numbers as well.

        Raises:
            Unavailable: as above, or there are too many dead letters.
        """
        delivery = PendingDelivery(messages, dead_letters)
        return self._store_durably(delivery), delivery.numbers

    def _store_durably(self, delivery: PendingDelivery) -> list[StoreResult]:
        """Let the thread that writes store `delivery`, and wait for the outcome.

        A burst is not an overload: it is on disk after a commit or two. But if commits stall, only
        `max_waiting` may wait: each keeps memory and a connection.
        """
        timeout_s = self._deadline_s
        with self._mutex:
            now = time.monotonic()
            if self._waiting == 0:
                self._stalled_since = now
            elif self._waiting >= self._max_waiting:
                if now - self._stalled_since > STALL_S:
                    raise Unavailable("too many deliveries are waiting for the disk")
                timeout_s = min(timeout_s, STALL_S)
            self._hand_over(delivery)
            self._waiting += 1
            self._observer.waiting(self._waiting)
        try:
            return self._outcome_of(delivery, timeout_s)
        finally:
            with self._mutex:
                if not delivery.given_up:
                    self._stalled_since = time.monotonic()
                self._waiting -= 1
                self._observer.waiting(self._waiting)

    def change(self, change: Change) -> Consumer | None:
        """Return what `change` returns, once it is on disk.

        Raises:
            StateError: that `change` raised; nothing was written.
            Unavailable: it was not on disk before the deadline. It may still be written.
        """
        pending = PendingChange(change)
        with self._mutex:
            self._hand_over(pending)
        return self._outcome_of(pending, self._deadline_s)

    def check(self, deadline_s: float) -> None:
        """Check that a message could be stored now, by writing and syncing a few bytes.

        The result is at most PROBE_VALID_S seconds old. Waits `deadline_s` seconds at most.

        Raises:
            Unavailable: no message could be stored.
        """
        with self._mutex:
            probe = self._probe
            if probe is None or time.monotonic() - probe.ended_at >= self._probe_valid_s:
                probe = PendingProbe()
                self._hand_over(probe)
                self._probe = probe
        try:
            probe.wait(deadline_s)
        except TimeoutError:
            replica = self._replica
            # Only this upload is slow: the last one ended within the deadline of a delivery.
            if replica and replica.is_asking and replica.answered_within(self._deadline_s):
                return
            raise self._waited_too_long() from None

    def close(self) -> None:
        """Refuse all that comes from now on, and close the writing connection."""
        with self._mutex:
            self._closed = True
            self._queue.put(None)
        if self._thread is not None:
            # With a limit: the thread may hang in a sync. It is a daemon, so the process can end.
            self._thread.join(2 * self._close_timeout_s)
        if self._replica is not None:
            self._replica.close(self._close_timeout_s)

    def _outcome_of(self, pending: Pending[T], timeout_s: float) -> T:
        try:
            return pending.wait(timeout_s)
        except TimeoutError:
            pending.given_up = True
            raise self._waited_too_long() from None

    def _waited_too_long(self) -> Unavailable:
        if self._replica is not None and self._replica.is_asking:
            return Unavailable("replica: waited too long for Litestream")
        return Unavailable(f"database: waited too long for {self._writer.waits_for}")

    def _hand_over(self, pending: PendingDelivery | PendingChange) -> None:
        """Give it to the thread that writes; may raise `Unavailable`, as `_start_thread`."""
        self._start_thread()
        pending.start(self._queue.put)

    def _start_thread(self) -> None:
        """Start the thread that writes, if it does not run; the caller holds the mutex.

        Raises:
            Unavailable: the service is stopping, or the system allows no more threads.
        """
        if self._closed:
            raise Unavailable("the service is shutting down")
        if self._thread is None or not self._thread.is_alive():
            thread = threading.Thread(target=self._run, name="writer", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:
                raise Unavailable(f"the thread that writes did not start: {error}") from None
            self._thread = thread

    def _run(self) -> None:
        """Write what arrives, until the end."""
        while not self._stopping:
            try:
                wait_s = 0 if self._writer.index_or_checkpoint_is_due else self._tasks.wait_s()
                self._take(self._queue.get(timeout=wait_s))
                if self._replica is not None and not self._stopping:
                    self._seen_in_replica = self._replica.seen()
                self._writer.write(self._commit)
            except Empty:
                pass
            except Exception as error:
                # After any error everybody is told, and the next delivery is written.
                self._fail(refusal_of(error))
            if not self._stopping:
                self._index_and_checkpoint()
                self._tasks.run_due_tasks()
        self._tasks.close()
        self._writer.close(timeout_s=self._close_timeout_s)

    def _take(self, pending: PendingDelivery | PendingChange | None) -> None:
        if pending is None:  # see `close`
            self._stopping = True
        elif isinstance(pending, PendingDelivery):
            self._deliveries.append(pending)
        else:
            self._changes.append(pending)

    def _take_all(self) -> None:
        """Take what is waiting, as far as it fits in a batch."""
        size = sum(one.size for one in self._deliveries)
        with suppress(Empty):
            while size < MAX_BATCH:
                pending = self._queue.get_nowait()
                self._take(pending)
                size += pending.size if pending else 0
        self._deliveries = [one for one in self._deliveries if not one.given_up]
        self._changes = [one for one in self._changes if not one.given_up]

    def _commit(self, connection: LockedConnection) -> None:
        """Store a batch, make the changes that wait, and tell each its outcome."""
        self._take_all()
        deliveries, changes = self._deliveries, self._changes
        has_created = False
        if deliveries:
            outcomes = self._store(connection, deliveries)
            stored = chain.from_iterable(each for each in outcomes if isinstance(each, list))
            has_created = any(one.created for one in stored)
            self._deliveries = []
            self._end(deliveries, outcomes)
        # The replica has to see something new, even if all messages are duplicates.
        needs_probe = self._replica is not None and not has_created
        if changes or (self._callbacks and needs_probe):
            results = self._change(connection, needs_probe=needs_probe)
            self._changes = []
            self._end(changes, results)
        if self._replica is not None and self._callbacks:
            callbacks, self._callbacks = self._callbacks, []
            has_others = changes or any(one.dead_letters for one in deliveries)
            end = end_of(connection) if has_created and not has_others else None
            batch = Batch(callbacks, self._writer.file, self._seen_in_replica, end)
            self._replica.acknowledge(batch)

    def _change(
        self, connection: LockedConnection, *, needs_probe: bool
    ) -> list[Consumer | Exception | None]:
        """Make the changes that wait, in one transaction; return their outcomes."""
        outcomes: list[Consumer | Exception | None] = []
        # Else a probe could succeed on a disk that has no room for a message.
        self._writer.make_space(connection)
        with transaction(connection):
            for pending in self._changes:
                try:
                    outcomes.append(pending.change(connection))
                except StateError as error:  # before it had written anything
                    outcomes.append(error)
            if needs_probe:
                write_probe(connection)
        return outcomes

    def _index_and_checkpoint(self) -> None:
        """Do a step of the upkeep, if it is due. If it fails, no delivery hears of it."""
        if self._writer.index_or_checkpoint_is_due:
            try:
                self._writer.write(self._writer.index_and_checkpoint, timeout_s=0)
            except (sqlite3.Error, OSError, SchemaError, Unavailable) as error:
                logger.warning("upkeep of the database failed: %s", error)

    def _store(
        self, connection: LockedConnection, deliveries: list[PendingDelivery]
    ) -> list[list[StoreResult] | Exception]:
        """Store all that `deliveries` hold together; or one by one, if one cannot be stored."""
        messages = [message for delivery in deliveries for message in delivery.messages]
        letters = [letter for delivery in deliveries for letter in delivery.dead_letters]
        started = time.perf_counter()
        try:
            stored, numbers = self._writer.store(connection, messages, letters)
        except (*FAULTS_OF_A_ROW, DeadLettersFull) as error:
            if len(deliveries) == 1:
                return [error]
            return [self._store(connection, [delivery])[0] for delivery in deliveries]
        self._observer.committed(len(messages), time.perf_counter() - started)
        results, new = iter(stored), iter(numbers)
        for delivery in deliveries:
            delivery.numbers = list(islice(new, len(delivery.dead_letters)))
        return [list(islice(results, len(delivery.messages))) for delivery in deliveries]

    def _end(self, pending: Sequence[Pending[T]], outcomes: Sequence[T | Exception]) -> None:
        """Tell who waits the outcomes: now, or when the replica has what was committed."""
        for one, outcome in zip(pending, outcomes, strict=True):
            if self._replica is None:
                one.end(outcome)
            else:
                self._callbacks.append(partial(one.end, outcome))

    def _fail(self, error: Exception) -> None:
        """End everything that waits with `error`."""
        self._take_all()
        waiting: list[PendingDelivery | PendingChange] = [*self._deliveries, *self._changes]
        for pending in waiting:
            pending.end(error)
        for callback in self._callbacks:
            callback(error)
        self._deliveries, self._changes, self._callbacks = [], [], []
