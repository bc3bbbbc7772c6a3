"""Group commit: deliveries that arrive together are put on disk together.

A request puts its message on the pending list; if nobody leads, it leads: it takes the
cross-process write lock, files everything pending in one transaction, and tells each waiting
request what became of its message. A batch is what arrived during the last fsync; a lone
delivery waits for nobody, and for no other thread.

Whatever needs waiting or patience is left to a thread that lives only as long as there is
something to do: waiting for another process, the next batch, upkeep. A request can therefore
answer when its time is over, be the lock free by then or not.
"""

import logging
import sqlite3
import threading
import time
from _thread import start_new_thread
from collections.abc import Sequence
from typing import Protocol

from webhook_api import storage
from webhook_api.db import Connection, Database, Writer
from webhook_api.errors import Unavailable
from webhook_api.models import InboundMessage
from webhook_api.schema import SchemaError
from webhook_api.storage import Filed

logger = logging.getLogger(__name__)

MAX_BATCH = 64  # messages in one transaction
INDEX_EVERY = 256  # messages: entering more at once is cheaper, and keeps the others waiting longer
CHECKPOINT_EVERY = 8192  # pages in the WAL, that is 32 MiB
_PAGES_OF_A_COMMIT = 6  # in the WAL, besides those of each message
_PAGES_OF_A_MESSAGE = 6
STALL_S = 0.5  # without a commit, after which it is overload to have many waiting
_RETRY_LOCKED_S = 0.005
_THE_DISK = "the disk"
# Whatever else goes wrong is the fault of the file or the disk, and fails the batch.
_FAULTS_OF_A_ROW = (
    sqlite3.IntegrityError,
    sqlite3.DataError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
    ValueError,
    OverflowError,
)


class Observer(Protocol):
    """Whom a `GroupCommit` keeps informed."""

    def waiting(self, deliveries: int) -> None:
        """So many deliveries now wait for the disk in this process."""

    def committed(self, messages: int, seconds: float) -> None:
        """So many messages were put on disk together, which took so long."""


class _Delivery:
    """A message on the pending list, and what its waiting request is told.

    `wake` is a lock that the request waits for, released once, with the answer. Each has its
    own: if all waited for one, they would queue for it again on waking.
    """

    __slots__ = ("answer", "deadline", "given_up", "message", "wake")

    def __init__(self, message: InboundMessage | None, deadline_s: float) -> None:
        self.message = message  # None: nothing to file, only to see whether it could be
        self.deadline = time.monotonic() + deadline_s
        self.answer: Filed | Exception | None = None
        self.given_up = False
        self.wake = threading.Lock()
        self.wake.acquire()

    @property
    def remaining_s(self) -> float:
        return max(0.0, self.deadline - time.monotonic())


class GroupCommit:
    """Files messages durably for all threads of one process."""

    def __init__(
        self, database: Database, observer: Observer, *, deadline_s: float, max_pending: int
    ) -> None:
        """Let `max_pending` deliveries wait for `deadline_s`, and more of them for STALL_S."""
        self._database = database
        self._writer = Writer(database)
        self._observer = observer
        self._deadline_s = deadline_s
        self._max_pending = max_pending
        self._mutex = threading.Lock()  # guards the next five; never held while waiting
        self._pending: list[_Delivery] = []
        self._waiting = 0
        self._moved_at = 0.0
        self._led = False
        self._closed = False
        self._waits_for = _THE_DISK
        self._unindexed = 0  # these two belong to who holds the write lock
        self._pages_in_wal = 0

    def file(self, message: InboundMessage) -> Filed:
        """Return what became of `message`, once it is on disk.

        Raises:
            Unavailable: it was not before the deadline, too many others wait, or the process is
                stopping. It may still get there; delivered again, it is then a duplicate.
        """
        return self._submit(_Delivery(message, self._deadline_s))

    def check(self, deadline_s: float) -> None:
        """Return when a message could be filed now, by committing a write that changes nothing.

        Raises:
            Unavailable: none could.
        """
        # A write that changes nothing may still fit where a message does not.
        self._database.check_room()
        self._submit(_Delivery(None, deadline_s))

    def close(self) -> None:
        """Refuse what comes from now on, and close the writing connection."""
        with self._mutex:
            self._closed = True
        self._writer.close()

    def _submit(self, delivery: _Delivery) -> Filed:
        leads = self._enter(delivery)
        try:
            if leads:
                self._lead()
            if not delivery.wake.acquire(timeout=delivery.remaining_s):
                self._give_up(delivery)
        finally:
            self._leave()
        if isinstance(delivery.answer, Filed):
            return delivery.answer
        raise delivery.answer or Unavailable(f"database: waited too long for {self._waits_for}")

    def _enter(self, delivery: _Delivery) -> bool:
        """Put `delivery` on the list; True if its request has to lead."""
        with self._mutex:
            if self._closed:
                raise Unavailable("the service is shutting down")
            self._make_room(delivery)
            self._waiting += 1
            self._observer.waiting(self._waiting)
            self._pending.append(delivery)
            leads = not self._led
            self._led = True
            return leads

    def _make_room(self, delivery: _Delivery) -> None:
        """Refuse `delivery`, or make it wait shortly only, if as many wait as may for long.

        A burst is no overload: it is on disk after a commit or two. But when those stall, all
        the threads of a process must not end up waiting.
        """
        now = time.monotonic()
        if self._waiting == 0:
            self._moved_at = now
        elif self._waiting >= self._max_pending:
            if now - self._moved_at > STALL_S:
                raise Unavailable("too many deliveries are waiting for the disk")
            delivery.deadline = min(delivery.deadline, now + STALL_S)

    def _leave(self) -> None:
        with self._mutex:
            self._waiting -= 1
            self._observer.waiting(self._waiting)

    def _give_up(self, delivery: _Delivery) -> None:
        """Take a delivery whose time is over off the list, unless it was just answered."""
        with self._mutex:
            delivery.given_up = delivery.answer is None
            if delivery.given_up and delivery in self._pending:
                self._pending.remove(delivery)

    def _lead(self) -> None:
        """Commit what is pending, if that can be done at once; start a thread for all else."""
        if self._commit(patience_s=0) and not self._upkeep_is_due() and self._resign():
            return
        try:
            start_new_thread(self._lead_on, ())
        except RuntimeError:
            self._lead_on()  # As many threads as the system allows: then do it late.

    def _lead_on(self) -> None:
        """Commit for as long as anything is pending, however long that takes."""
        while True:
            if not self._commit(patience_s=None):
                # Another program writes. It is waited for without our lock, and by looking
                # again: SQLite has no queue to stand in.
                time.sleep(_RETRY_LOCKED_S)
            if self._resign():
                return

    def _resign(self) -> bool:
        """Stop leading, unless there is something pending."""
        with self._mutex:
            self._led = bool(self._pending)
            return not self._led

    def _commit(self, *, patience_s: float | None) -> bool:
        """File a batch and answer it, with an error if need be; False if others write now.

        With no limit to the patience, which only a thread of our own has, also do what can be
        done after the answers.
        """
        batch: list[_Delivery] = []
        try:
            with self._database.write_lock(patience_s):
                self._waits_for = _THE_DISK
                connection = self._open()
                batch = self._take()
                if batch:
                    self._settle(batch, self._write(connection, batch))
                if patience_s is None:
                    self._tend(connection)
        except BlockingIOError:
            self._waits_for = "another process, which holds the write lock"
            return False
        except sqlite3.Error as error:
            if _is_locked(error):
                self._waits_for = "another program, which writes to the file"
                self._put_back(batch)
                return False
            self._fail(batch, Unavailable(f"database: {error}"))
        except SchemaError as error:
            self._fail(batch, Unavailable(f"database: {error}"))
        except OSError as error:
            self._fail(batch, Unavailable(f"database: {error.strerror}"))
        except Exception as error:
            # Whatever it is, nobody may wait for it, and somebody must lead again.
            self._fail(batch, error)
        return True

    def _open(self) -> Connection:
        if self._closed:
            raise Unavailable("the service is shutting down")
        return self._writer.connection()

    def _take(self) -> list[_Delivery]:
        with self._mutex:
            batch = self._pending[:MAX_BATCH]
            del self._pending[:MAX_BATCH]
        return batch

    def _put_back(self, batch: list[_Delivery]) -> None:
        with self._mutex:
            self._pending[:0] = [delivery for delivery in batch if not delivery.given_up]

    def _write(self, connection: Connection, batch: list[_Delivery]) -> Sequence[Filed | Exception]:
        messages = [delivery.message for delivery in batch if delivery.message is not None]
        started = time.perf_counter()
        try:
            if len(messages) < len(batch):
                storage.touch(connection)
            filed = iter(_insert(connection, messages))
        except sqlite3.Error as error:
            if not _is_locked(error):
                self._writer.discard()
            raise
        self._observer.committed(len(messages), time.perf_counter() - started)
        self._unindexed += len(messages)
        self._pages_in_wal += _PAGES_OF_A_COMMIT + _PAGES_OF_A_MESSAGE * len(messages)
        checked = Filed(created=False)
        return [checked if delivery.message is None else next(filed) for delivery in batch]

    def _settle(self, batch: list[_Delivery], answers: Sequence[Filed | Exception]) -> None:
        self._moved_at = time.monotonic()
        for delivery, answer in zip(batch, answers, strict=True):
            with self._mutex:
                delivery.answer = answer
            delivery.wake.release()

    def _fail(self, batch: list[_Delivery], error: Exception) -> None:
        unanswered = [delivery for delivery in batch or self._take() if delivery.answer is None]
        self._settle(unanswered, [error] * len(unanswered))

    def _upkeep_is_due(self) -> bool:
        return self._unindexed >= INDEX_EVERY or self._pages_in_wal >= CHECKPOINT_EVERY

    def _tend(self, connection: Connection) -> None:
        """Index in bulk, and keep the WAL short."""
        try:
            if self._unindexed >= INDEX_EVERY:
                self._unindexed = 0
                storage.index_messages(connection, most=4 * INDEX_EVERY)
            if self._pages_in_wal >= CHECKPOINT_EVERY:
                self._pages_in_wal = 0
                storage.checkpoint(connection)
        except sqlite3.Error as error:
            # The messages are safe. It is tried again after as many more.
            logger.warning("upkeep of the database failed: %s", error)


def _insert(connection: Connection, messages: list[InboundMessage]) -> Sequence[Filed | Exception]:
    """File all of `messages` together, or one by one if one of them cannot be."""
    if not messages:
        return []
    try:
        return storage.insert_messages(connection, messages)
    except _FAULTS_OF_A_ROW as error:
        if len(messages) == 1:
            return [error]
        return [_insert(connection, [message])[0] for message in messages]


def _is_locked(error: sqlite3.Error) -> bool:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
