"""Reads whose cost grows with the data: one at a time in each process, with a deadline.

A read is stopped in the thread in which it runs, by SQLite's progress handler. Knows no Flask.
"""

import sqlite3
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import TypeVar

from webhook_api.errors import ClientLeft, RequestRefused, Unavailable
from webhook_api.store.connections import Connection
from webhook_api.store.database import Database

WAIT_S = 1.0  # for other reads
_INSTRUCTIONS = 20_000  # of SQLite's machine between two checks: less than a millisecond
_CHECK_CLIENT_S = 0.05

T = TypeVar("T")


class Refusal(StrEnum):
    """Why a read ended early; the values of the metric's `reason`."""

    NO_TURN = "no_turn"
    DEADLINE = "deadline"
    CLIENT_LEFT = "client_left"


class LongReads:
    """All long reads of one process."""

    def __init__(
        self,
        database: Database,
        report_refusal: Callable[[Refusal], None],
        *,
        deadline_s: float,
        wait_s: float = WAIT_S,
    ) -> None:
        self._database = database
        self._report_refusal = report_refusal
        self._deadline_s = deadline_s
        self._wait_s = wait_s
        self._lock = threading.Lock()

    @contextmanager
    def reader(self, has_client_left: Callable[[], bool]) -> Iterator[Connection]:
        """Yield a connection for one read, when the reads before it have ended.

        Raises:
            Unavailable: these took too long, or this one did, or there is no file.
            ClientLeft: the client does not wait any more.
        """
        if not self._lock.acquire(timeout=self._wait_s):
            raise self._refused(Refusal.NO_TURN)
        deadline, next_check = time.monotonic() + self._deadline_s, 0.0
        refusal: Refusal | None = None

        def must_end() -> bool:
            nonlocal next_check, refusal
            now = time.monotonic()
            if now > deadline:
                refusal = Refusal.DEADLINE
            elif now > next_check:
                next_check = now + _CHECK_CLIENT_S
                if has_client_left():
                    refusal = Refusal.CLIENT_LEFT
            return refusal is not None

        try:
            if has_client_left():
                raise self._refused(Refusal.CLIENT_LEFT)
            with self._database.reader() as reader:
                reader.set_progress_handler(must_end, _INSTRUCTIONS)
                try:
                    yield reader
                finally:
                    reader.set_progress_handler(None, 0)
        except sqlite3.OperationalError:
            if refusal is None:
                raise
            raise self._refused(refusal) from None
        finally:
            self._lock.release()

    def stream(
        self, chunks: Callable[[Connection], Iterator[list[T]]], has_client_left: Callable[[], bool]
    ) -> Generator[T]:
        """Yield what is in `chunks`; a reader is kept until the generator is closed.

        Raises:
            Unavailable: there is no file.
            ClientLeft: the client does not wait any more.
        """
        with self._database.reader() as reader:
            for chunk in chunks(reader):
                if has_client_left():
                    raise self._refused(Refusal.CLIENT_LEFT)
                yield from chunk

    def _refused(self, refusal: Refusal) -> RequestRefused:
        self._report_refusal(refusal)
        if refusal is Refusal.CLIENT_LEFT:
            return ClientLeft()
        if refusal is Refusal.NO_TURN:
            return Unavailable(f"other reads took longer than {self._wait_s:g} s")
        return Unavailable(f"the read took longer than {self._deadline_s:g} s")
