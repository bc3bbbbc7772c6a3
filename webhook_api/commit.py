"""Group commit: deliveries that arrive together are put on disk together.

There is no thread of its own. A request puts its message on the pending list; if nobody leads,
it leads: it takes the cross-process write lock, files everything pending in one transaction,
tells each waiting request what became of its message, and hands the lead to the next one that
waits. A batch is what arrived during the last fsync; a lone delivery waits for nobody.
"""

import logging
import sqlite3
import threading
import time
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
CHECKPOINT_EVERY = 1024  # messages, of some 6 WAL pages each
_RETRY_LOCKED_S = 0.005
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

    `wake` is a lock that the request waits for. Each has its own: if all waited for one, they
    would queue for it again on waking. It is released once, with the answer or with the lead.
    """

    __slots__ = ("answer", "deadline", "given_up", "leads", "message", "wake")

    def __init__(self, message: InboundMessage | None, deadline_s: float) -> None:
        self.message = message  # None: nothing to file, only to see whether it could be
        self.deadline = time.monotonic() + deadline_s
        self.answer: Filed | Exception | None = None
        self.leads = False
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
        self._database = database
        self._writer = Writer(database)
        self._observer = observer
        self._deadline_s = deadline_s
        self._max_pending = max_pending
        self._mutex = threading.Lock()  # guards the next four; never held while waiting
        self._pending: list[_Delivery] = []
        self._waiting = 0
        self._led = False
        self._closed = False
        self._unindexed = 0  # these two belong to the leader
        self._in_wal = 0

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
        self._submit(_Delivery(None, deadline_s))

    def close(self) -> None:
        """Refuse what comes from now on, and close the writing connection."""
        with self._mutex:
            self._closed = True
        self._writer.close()

    def _submit(self, delivery: _Delivery) -> Filed:
        self._enter(delivery)
        try:
            if not delivery.leads and not delivery.wake.acquire(timeout=delivery.remaining_s):
                self._give_up(delivery)
            if delivery.leads:
                self._lead(delivery)
        finally:
            self._leave()
        if isinstance(delivery.answer, Filed):
            return delivery.answer
        raise delivery.answer or Unavailable("the message was not on disk in time")

    def _enter(self, delivery: _Delivery) -> None:
        with self._mutex:
            if self._closed:
                raise Unavailable("the service is shutting down")
            if self._waiting >= self._max_pending:
                raise Unavailable("too many deliveries are waiting for the disk")
            self._waiting += 1
            self._observer.waiting(self._waiting)
            self._pending.append(delivery)
            delivery.leads = not self._led
            self._led = True

    def _leave(self) -> None:
        with self._mutex:
            self._waiting -= 1
            self._observer.waiting(self._waiting)

    def _give_up(self, delivery: _Delivery) -> None:
        """Take a delivery off the list whose time is over, unless it was just woken after all."""
        with self._mutex:
            delivery.given_up = delivery.answer is None and not delivery.leads
            if delivery.given_up and delivery in self._pending:
                self._pending.remove(delivery)

    def _lead(self, leader: _Delivery) -> None:
        """Commit batches until the leader's own message is answered, then pass the lead on."""
        try:
            while leader.answer is None:
                if self._commit_pending():
                    continue
                # Another program writes. It is waited for without our lock, and by looking
                # again: SQLite has no queue to stand in.
                if not leader.remaining_s:
                    leader.answer = Unavailable("database is locked by another program")
                time.sleep(_RETRY_LOCKED_S)
        finally:
            with self._mutex:
                if leader in self._pending:
                    self._pending.remove(leader)
                self._led = bool(self._pending)
                if self._led:
                    self._pending[0].leads = True
                    self._pending[0].wake.release()

    def _commit_pending(self) -> bool:
        """File a batch and answer it, with an error if need be; False if the database is locked."""
        batch: list[_Delivery] = []
        try:
            with self._database.write_lock():
                connection = self._writer.connection()
                batch = self._take()
                try:
                    answers = self._write(connection, batch)
                except sqlite3.Error as error:
                    if not _is_locked(error):
                        self._writer.discard()
                    raise
                self._settle(batch, answers)
                self._tend(connection, len(batch))
        except sqlite3.Error as error:
            if _is_locked(error):
                self._put_back(batch)
                return False
            self._fail(batch, f"database: {error}")
        except SchemaError as error:
            self._fail(batch, f"database: {error}")
        except OSError as error:
            self._fail(batch, f"database: {error.strerror}")
        except Unavailable as error:
            self._fail(batch, str(error.detail))
        return True

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
        if len(messages) < len(batch):
            storage.touch(connection)
        filed = iter(_insert(connection, messages))
        self._observer.committed(len(messages), time.perf_counter() - started)
        checked = Filed(created=False)
        return [checked if delivery.message is None else next(filed) for delivery in batch]

    def _settle(self, batch: list[_Delivery], answers: Sequence[Filed | Exception]) -> None:
        for delivery, answer in zip(batch, answers, strict=True):
            with self._mutex:
                delivery.answer = answer
            if not delivery.leads:
                delivery.wake.release()

    def _fail(self, batch: list[_Delivery], reason: str) -> None:
        batch = batch or self._take()
        self._settle(batch, [Unavailable(reason) for _ in batch])

    def _tend(self, connection: Connection, messages: int) -> None:
        """Do what can be done after the answers: index in bulk, and keep the WAL short."""
        self._unindexed += messages
        self._in_wal += messages
        try:
            if self._unindexed >= INDEX_EVERY:
                storage.index_messages(connection, most=4 * INDEX_EVERY)
                self._unindexed = 0
            if self._in_wal >= CHECKPOINT_EVERY:
                storage.checkpoint(connection)
                self._in_wal = 0
        except sqlite3.Error as error:
            # The messages are safe. Whoever commits next tries again.
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
