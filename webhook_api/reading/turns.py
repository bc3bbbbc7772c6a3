"""Reads whose cost grows with the data: they run in turn, and nothing else waits for them.

Each holds one of a few places, so that most threads of the process stay free. Its turn comes when
the reads before it have ended. It is stopped at its deadline, or when its client has left. Knows
no Flask.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Generic, Protocol, Self, TypeVar

from webhook_api.errors import ClientLeft, RequestRefused, Unavailable
from webhook_api.reading.jobs import Job, JobQueue, Stopped
from webhook_api.store.connections import Connection
from webhook_api.store.database import Database

READS_AT_ONCE = 1
WAIT_S = 1.0  # for a turn
_LEAVE_AFTER_S = 1.0  # how long a stopped read is waited for

T = TypeVar("T")
IsGone = Callable[[], bool]


class Refusal(StrEnum):
    """Why a read ended early; the values of the metric's `reason`."""

    NO_PLACE = "no_place"
    NO_TURN = "no_turn"
    DEADLINE = "deadline"
    CLIENT_LEFT = "client_left"


class ReadingObserver(Protocol):
    """Is told what a `Reading` does."""

    def read_refused(self, refusal: Refusal) -> None:
        """A read ended early."""


class Reading:
    """All such reads of one process: `places` at once, of which streams may have three quarters."""

    def __init__(
        self,
        database: Database,
        observer: ReadingObserver,
        *,
        places: int,
        deadline_s: float,
        wait_s: float = WAIT_S,
    ) -> None:
        self._database = database
        self._observer = observer
        self._deadline_s = deadline_s
        self._wait_s = wait_s
        self._mutex = threading.Lock()  # guards the next two
        self._free = places
        self._free_for_streams = max(1, places * 3 // 4)
        self._reads = JobQueue(READS_AT_ONCE)
        # Streams have many short turns; in the same queue each would wait for a long read.
        self._chunks = JobQueue(1)

    def read(self, work: Callable[[Connection], T], is_gone: IsGone) -> T:
        """Call `work` with a reader when its turn comes, and return what it returns.

        Raises:
            Unavailable: its turn did not come, it took too long, or there is no file.
            ClientLeft: the client does not wait any more.
            sqlite3.Error: the database cannot be read.
        """

        def lend_and_work(job: Job[T]) -> T:
            with self._database.reader() as reader, job.using(reader):
                return work(reader)

        with self._place():
            try:
                return self._reads.run(
                    lend_and_work,
                    self._watch(is_gone, self._wait_s),
                    leave_after_s=_LEAVE_AFTER_S,
                )
            except Stopped as stopped:
                raise self._refused(stopped.reason) from None

    def stream(self, chunks: Callable[[Connection], Iterator[T]], is_gone: IsGone) -> "Stream[T]":
        """Return an iterator of `chunks`, which holds a place and a reader until it is closed.

        Raises:
            Unavailable: there is no free place, or there is no file.
            sqlite3.Error: the database cannot be read.
        """
        self.enter(streams=1)
        try:
            reader = self._database.lend_reader()
        except BaseException:
            self.leave(streams=1)
            raise
        return Stream(self, self._database, reader, chunks(reader), is_gone)

    def next_chunk(self, reader: Connection, chunks: Iterator[T], is_gone: IsGone) -> T | None:
        """Return the next of `chunks`, which use `reader`; None at the end. Raises like `read`."""

        def advance(job: Job[T | None]) -> T | None:
            with job.using(reader):
                return next(chunks, None)

        try:
            # Without limits: a stream that has begun should come to its end, and the reader can
            # be given back only when the job has ended.
            return self._chunks.run(advance, self._watch(is_gone, None), leave_after_s=None)
        except Stopped as stopped:
            raise self._refused(stopped.reason) from None

    def enter(self, *, streams: int) -> None:
        """Take a place, for a stream if `streams` is 1.

        Raises:
            Unavailable: none is free.
        """
        with self._mutex:
            if self._free and (self._free_for_streams or not streams):
                self._free -= 1
                self._free_for_streams -= streams
                return
        raise self._refused(Refusal.NO_PLACE)

    def leave(self, *, streams: int) -> None:
        """Give up a place."""
        with self._mutex:
            self._free += 1
            self._free_for_streams += streams

    @contextmanager
    def _place(self) -> Iterator[None]:
        self.enter(streams=0)
        try:
            yield
        finally:
            self.leave(streams=0)

    def _watch(self, is_gone: IsGone, wait_s: float | None) -> Callable[[Job[T]], Refusal | None]:
        arrived = time.monotonic()

        def why_stop(job: Job[T]) -> Refusal | None:
            now = time.monotonic()
            if job.started_at is None:
                if wait_s is not None and now - arrived > wait_s:
                    return Refusal.NO_TURN
            elif now - job.started_at > self._deadline_s:
                return Refusal.DEADLINE
            return Refusal.CLIENT_LEFT if is_gone() else None

        return why_stop

    def _refused(self, refusal: Refusal) -> RequestRefused:
        self._observer.read_refused(refusal)
        if refusal is Refusal.CLIENT_LEFT:
            return ClientLeft()
        return Unavailable(
            {
                Refusal.NO_PLACE: "too many reads are waiting or being sent",
                Refusal.NO_TURN: f"other reads took longer than {self._wait_s:g} s",
                Refusal.DEADLINE: f"the read took longer than {self._deadline_s:g} s",
            }[refusal]
        )


class Stream(Generic[T]):
    """The chunks of a stream. The thread that iterates over it must close it."""

    def __init__(
        self,
        reading: Reading,
        database: Database,
        reader: Connection,
        chunks: Iterator[T],
        is_gone: IsGone,
    ) -> None:
        self._reading = reading
        self._database = database
        self._reader: Connection | None = reader
        self._chunks = chunks
        self._is_gone = is_gone
        self._sound = True

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        if self._reader is None:
            raise StopIteration
        self._sound = False
        chunk = self._reading.next_chunk(self._reader, self._chunks, self._is_gone)
        self._sound = True
        if chunk is None:
            self.close()
            raise StopIteration
        return chunk

    def close(self) -> None:
        """Give back the reader and the place, once."""
        reader, self._reader = self._reader, None
        if reader is None:
            return
        try:
            # After a failure its cache may hold bad pages of the file.
            self._database.return_reader(reader, reusable=self._sound)
        finally:
            self._reading.leave(streams=1)
