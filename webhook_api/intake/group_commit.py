"""Group commit: deliveries that arrive together are put on disk together.

A request hands its message to the one thread of its process that writes, and waits for the
outcome, until its deadline at most. A batch is what arrived during the last sync; a lone delivery
waits for nobody. With a replica, the outcomes of a batch are told when the replica has it, see
`replica.py`. After that the thread indexes and makes checkpoints, and does the tasks of
`maintenance/background_tasks.py`.
"""

import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from itertools import islice
from queue import Empty, SimpleQueue
from typing import Protocol, TypeVar

from webhook_api.errors import SchemaError, StateError, Unavailable
from webhook_api.intake.replica import Answer, Batch, Replica
from webhook_api.maintenance.background_tasks import BackgroundTasks
from webhook_api.models import FeedPosition, InboundMessage
from webhook_api.store.connections import FAULTS_OF_A_ROW
from webhook_api.store.database import Database
from webhook_api.store.dead_letters import DeadLetter, DeadLettersFull
from webhook_api.store.lock import LockedConnection, transaction
from webhook_api.store.messages import StoreResult, write_probe
from webhook_api.store.positions import Change, Consumer, end_of
from webhook_api.store.writer import Writer
from webhook_api.waiting import new_wait

logger = logging.getLogger(__name__)

MAX_BATCH = 64  # messages in one transaction, after which no further delivery is added
STALL_S = 0.5  # seconds without a commit, after which many waiting deliveries are an overload
PROBE_VALID_S = 1.0  # how long other requests get the result of a probe
_CLOSE_TIMEOUT_S = 1.0

StoreOutcome = list[StoreResult] | Exception


class CommitObserver(Protocol):
    """Is told what a `GroupCommit` does: the metrics."""

    def waiting(self, deliveries: int) -> None:
        """`deliveries` of this process now wait for the disk."""

    def committed(self, messages: int, seconds: float) -> None:
        """`messages` were put on disk together, in so many `seconds`."""


class PendingDelivery:
    """What to store together, and the outcome that its request waits for."""

    __slots__ = ("_outcome", "_wait", "dead_letters", "given_up", "messages", "numbers")

    def __init__(
        self,
        messages: Sequence[InboundMessage],
        dead_letters: Sequence[DeadLetter] = (),
    ) -> None:
        self.messages = messages
        self.dead_letters = dead_letters
        self.numbers: Sequence[int] = ()  # of the dead letters, once they are stored
        self.given_up = False
        self._outcome: StoreOutcome | None = None
        self._wait = new_wait()

    @property
    def size(self) -> int:
        return len(self.messages) + len(self.dead_letters)

    def start(self, hand_over: Callable[["PendingDelivery"], None]) -> None:
        """Hand this delivery to the thread that writes."""
        self._wait.start(partial(hand_over, self))

    def end(self, outcome: StoreOutcome) -> None:
        self._outcome = outcome
        self._wait.end()

    def wait(self, timeout_s: float) -> StoreOutcome | None:
        """Return the outcome. None if there is none within `timeout_s` seconds: it is given up."""
        self.given_up = not self._wait.until_ended(timeout_s)
        return self._outcome


class PendingChange:
    """A change of a consumer, and the outcome that its request waits for."""

    def __init__(self, change: Change) -> None:
        self.change = change
        self.given_up = False
        self._outcome: Consumer | Exception | None = None
        self._ended = threading.Event()

    def end(self, outcome: Consumer | Exception | None) -> None:
        self._outcome = outcome
        self._ended.set()

    def wait(self, timeout_s: float) -> Consumer | Exception | None:
        """Return the outcome.

        Raises:
            TimeoutError: there is none within `timeout_s` seconds: it is given up.
        """
        self.given_up = not self._ended.wait(timeout_s)
        if self.given_up:
            raise TimeoutError
        return self._outcome


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

    def wait(self, timeout_s: float) -> bool:
        """Return whether it ended within `timeout_s` seconds; if it failed, raise why."""
        if not self._ended.wait(timeout_s):
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


T = TypeVar("T")

Job = PendingDelivery | PendingChange | PendingProbe


def _has_created(outcomes: Sequence[StoreOutcome]) -> bool:
    return any(one.created for each in outcomes if isinstance(each, list) for one in each)


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
        """Let `max_waiting` deliveries wait for `deadline_s`, and any more for STALL_S.

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
        self._queue: SimpleQueue[Job | None] = SimpleQueue()
        self._mutex = threading.Lock()  # guards the next five; nobody waits while holding it
        self._waiting = 0
        self._stalled_since = 0.0
        self._closed = False
        self._probe: PendingProbe | None = None
        self._thread: threading.Thread | None = None
        # Only the writing thread uses these: what it took from the queue and has not ended.
        self._deliveries: list[PendingDelivery] = []
        self._probes: list[PendingProbe] = []
        self._changes: list[PendingChange] = []
        self._answers: list[Answer] = []  # to be given when the replica has what was committed
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
        return self._await(PendingDelivery(messages))

    def store_all(
        self, messages: Sequence[InboundMessage], dead_letters: Sequence[DeadLetter]
    ) -> tuple[list[StoreResult], Sequence[int]]:
        """Do the same with dead letters; return their numbers as well.

        Raises:
            Unavailable: as above, or there are too many dead letters.
        """
        delivery = PendingDelivery(messages, dead_letters)
        return self._await(delivery), delivery.numbers

    def _await(self, delivery: PendingDelivery) -> list[StoreResult]:
        timeout_s = self._enter(delivery)
        try:
            outcome = delivery.wait(timeout_s)
        finally:
            with self._mutex:
                self._waiting -= 1
                self._observer.waiting(self._waiting)
        if isinstance(outcome, list):
            return outcome
        raise self._waited_too_long() if outcome is None else own_exception(outcome)

    def change(self, change: Change) -> Consumer | None:
        """Return what `change` returns, once it is on disk.

        Raises:
            StateError: that `change` raised; nothing was written.
            Unavailable: it was not on disk before the deadline. It may still be written.
        """
        pending = PendingChange(change)
        with self._mutex:
            self._start_thread()
            self._queue.put(pending)
        try:
            answer = pending.wait(self._deadline_s)
        except TimeoutError:
            raise self._waited_too_long() from None
        if isinstance(answer, Exception):
            raise own_exception(answer)
        return answer

    def check(self, deadline_s: float) -> None:
        """Check that a message could be stored now, by writing and syncing a few bytes.

        The result is at most PROBE_VALID_S seconds old. Waits `deadline_s` seconds at most.

        Raises:
            Unavailable: no message could be stored.
        """
        with self._mutex:
            if self._probe is None or not self._probe.is_valid:
                probe = PendingProbe(self._probe_valid_s)
                self._start_thread()
                self._queue.put(probe)
                self._probe = probe
            probe = self._probe
        if not probe.wait(deadline_s) and not self._waits_for_an_upload():
            raise self._waited_too_long()

    def _waits_for_an_upload(self) -> bool:
        """Return whether only the upload takes long, and deliveries are still answered in time."""
        replica = self._replica
        return bool(replica and replica.is_asking and replica.answered_within(self._deadline_s))

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

    def _waited_too_long(self) -> Unavailable:
        if self._replica is not None and self._replica.is_asking:
            return Unavailable("replica: waited too long for Litestream")
        return Unavailable(f"database: waited too long for {self._writer.waits_for}")

    def _enter(self, delivery: PendingDelivery) -> float:
        """Hand `delivery` to the thread that writes; return how many seconds it may wait.

        A burst is not an overload: it is on disk after a commit or two. But if commits stall, only
        `max_waiting` may wait: each keeps memory and a connection.
        """
        with self._mutex:
            now = time.monotonic()
            timeout_s = self._deadline_s
            if self._waiting == 0:
                self._stalled_since = now
            elif self._waiting >= self._max_waiting:
                if now - self._stalled_since > STALL_S:
                    raise Unavailable("too many deliveries are waiting for the disk")
                timeout_s = min(timeout_s, STALL_S)
            self._start_thread()
            delivery.start(self._queue.put)
            self._waiting += 1
            self._observer.waiting(self._waiting)
            return timeout_s

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
            except (sqlite3.Error, SchemaError) as error:
                self._fail(Unavailable(f"database: {error}"))
            except OSError as error:
                self._fail(Unavailable(f"database: {error.strerror}"))
            except Exception as error:
                # After any error everybody is told, and the next delivery is written.
                self._fail(error)
            if not self._stopping:
                self._index_and_checkpoint()
                self._tasks.run_due_tasks()
        self._tasks.close()
        self._writer.close(timeout_s=self._close_timeout_s)

    def _take(self, job: Job | None) -> None:
        if isinstance(job, PendingDelivery):
            self._deliveries.append(job)
        elif isinstance(job, PendingChange):
            self._changes.append(job)
        elif job is None:  # see `close`
            self._stopping = True
        else:
            self._probes.append(job)

    def _take_all(self) -> None:
        """Take what is waiting, as far as it fits in a batch."""
        size = sum(job.size for job in self._deliveries)
        with suppress(Empty):
            while size < MAX_BATCH:
                job = self._queue.get_nowait()
                self._take(job)
                size += job.size if isinstance(job, PendingDelivery) else 0
        self._deliveries = [job for job in self._deliveries if not job.given_up]

    def _commit(self, connection: LockedConnection) -> None:
        """Store a batch, and tell each delivery its outcome."""
        self._take_all()
        deliveries, others = self._deliveries, self._changes or self._probes
        outcomes: list[StoreOutcome] = []
        if deliveries:
            outcomes = self._store(connection, deliveries)
            self._end_deliveries(outcomes)
        if self._changes:
            self._change(connection)
        # The replica has to see something new, even if all messages are duplicates.
        if self._probes or (self._answers and not _has_created(outcomes)):
            # A few bytes may still fit where a message does not.
            self._writer.make_space(connection)
            write_probe(connection)
            self._end_probes(None)
        if self._replica is not None and self._answers:
            answers, self._answers = self._answers, []
            end: FeedPosition | None = end_of(connection)
            if others or not _has_created(outcomes) or any(one.dead_letters for one in deliveries):
                end = None
            seen = self._seen_in_replica
            self._replica.acknowledge(Batch(answers, self._writer.file, seen, end))

    def _change(self, connection: LockedConnection) -> None:
        """Make the changes that wait, in one transaction, and answer them."""
        changes = [one for one in self._changes if not one.given_up]
        answers: list[Consumer | Exception | None] = []
        self._writer.make_space(connection)
        with transaction(connection):
            for pending in changes:
                try:
                    answers.append(pending.change(connection))
                except StateError as error:  # before it had written anything
                    answers.append(error)
        self._end_changes(changes, answers)

    def _end_changes(
        self, changes: Sequence[PendingChange], answers: Sequence[Consumer | Exception | None]
    ) -> None:
        self._changes = []
        for pending, answer in zip(changes, answers, strict=True):
            self._end(pending.end, answer)

    def _index_and_checkpoint(self) -> None:
        """Do a step of the upkeep, if it is due. If it fails, no delivery hears of it."""
        if self._writer.index_or_checkpoint_is_due:
            try:
                self._writer.write(self._writer.index_and_checkpoint, timeout_s=0)
            except (sqlite3.Error, OSError, SchemaError, Unavailable) as error:
                logger.warning("upkeep of the database failed: %s", error)

    def _store(
        self, connection: LockedConnection, deliveries: list[PendingDelivery]
    ) -> list[StoreOutcome]:
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

    def _end_deliveries(self, outcomes: Sequence[StoreOutcome]) -> None:
        ended, self._deliveries = self._deliveries, []
        for delivery, outcome in zip(ended, outcomes, strict=True):
            self._end(delivery.end, outcome)
        self._end(self._note_progress, None)

    def _note_progress(self, _failure: Exception | None) -> None:
        self._stalled_since = time.monotonic()

    def _end_probes(self, failure: Exception | None) -> None:
        ended, self._probes = self._probes, []
        for probe in ended:
            self._end(probe.end, failure)

    def _end(self, end: Callable[[T | Exception], None], outcome: T | Exception) -> None:
        """Tell who waits the outcome: now, or when the replica has what was committed."""
        if self._replica is None:
            end(outcome)
        else:
            self._answers.append(lambda failure: end(failure or outcome))

    def _fail(self, error: Exception) -> None:
        """End everything that waits with `error`."""
        self._take_all()
        self._end_deliveries([error] * len(self._deliveries))
        self._end_probes(error)
        self._end_changes(self._changes, [error] * len(self._changes))
        answers, self._answers = self._answers, []
        for answer in answers:
            answer(error)
