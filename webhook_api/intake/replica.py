"""Asks Litestream whether the replica has what was committed (ACK_AFTER=replica).

Only the thread `replica` of a process uses Litestream's control socket, and only it waits for an
upload. The writing thread hands it each batch after the commit, holds no lock, and goes on. One
upload is for all batches that were committed before it was asked for, also those of other
processes, which ask one after the other. Whatever fails, no batch is acknowledged: its messages are
on disk, and their repeats are duplicates.
"""

import json
import logging
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import closing, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Literal

from pydantic import BaseModel, ConfigDict, PositiveInt, ValidationError

from webhook_api.errors import Unavailable
from webhook_api.models import FeedPosition
from webhook_api.store.connections import FileIdentity
from webhook_api.store.database import Database
from webhook_api.store.positions import end_of, is_proved, note_replicated, one_uploads

logger = logging.getLogger(__name__)

Answer = Callable[[Exception | None], None]  # is told why there is no acknowledgement

# Litestream itself gives up after 30 s. Deliveries are answered 503 long before, but the request
# goes on: another one would only wait behind the upload that hangs.
_TIMEOUT_S = 35.0
_FIRST_ANSWER_S = 1.0
_MAX_ANSWER_BYTES = 64 * 1024


@dataclass(frozen=True, eq=False)
class Batch:
    """What one transaction has put on disk, and who waits for it."""

    answers: Sequence[Answer]
    file: FileIdentity  # that it was committed to
    seen: int  # see `Replica.seen`
    end: FeedPosition | None  # of the feed, if it has new messages and nothing else
    committed_at: float = field(default_factory=time.perf_counter)


class _Synced(BaseModel):
    """The answer to POST /sync: the replica has all up to a transaction, in Litestream's count."""

    model_config = ConfigDict(strict=True)

    status: Literal["synced", "no_change"]  # the second: all was uploaded before
    replicated_txid: PositiveInt


class Replica:
    """Acknowledges batches when the replica has them."""

    def __init__(
        self, database: Database, socket_path: Path, observe: Callable[[float], None]
    ) -> None:
        """Tell `observe` the seconds from the commit of a batch to its acknowledgement."""
        self.is_asking = False
        self._database = database
        self._socket_path = socket_path
        self._observe = observe
        self._queue: SimpleQueue[Batch | None] = SimpleQueue()
        self._seen = 0
        self._answered_at = float("-inf")
        self._thread: threading.Thread | None = None

    def seen(self) -> int:
        """Return up to which transaction the replica had all when Litestream last answered.

        The writing thread asks for it before each commit. After the commit, Litestream has to name
        a later one: it does not if it follows another file, which nobody writes. Only until the
        first answer, this waits for it, for a second at most.

        Raises:
            Unavailable: Litestream has not answered yet.
        """
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._run, name="replica", daemon=True)
            self._thread.start()
        if not self._seen:
            answered: Future[Exception | None] = Future()
            self._queue.put(Batch([answered.set_result], self._database.identity(), 0, None))
            try:
                failure = answered.result(_FIRST_ANSWER_S)
            except TimeoutError:
                failure = Unavailable("replica: Litestream does not answer")
            if failure:
                raise failure
        return self._seen

    def acknowledge(self, batch: Batch) -> None:
        """Answer those who wait for `batch` when the replica has it, or when that failed."""
        self._queue.put(batch)

    def answered_within(self, seconds: float) -> bool:
        """Return whether the replica took all there was, not longer ago than that."""
        return time.monotonic() - self._answered_at <= seconds

    def close(self, timeout_s: float) -> None:
        """Stop. If an upload hangs, this goes on after `timeout_s`: the thread is a daemon."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join(timeout_s)

    def _run(self) -> None:
        while (first := self._queue.get()) is not None:
            self.is_asking = True
            batches = [first]
            uploaded: Sequence[Batch] = []
            failure: Exception = Unavailable("replica: Litestream does not see what is committed")
            try:
                with one_uploads(self._database) as noted:
                    batches += self._take_all()
                    uploaded = self._upload(batches, noted)
            except sqlite3.Error as error:
                failure = Unavailable(f"database: {error}")
            except OSError as error:
                failure = Unavailable(f"database: {error.strerror}")
            except Exception as error:
                failure = error  # everybody is told, and the next batch is tried
            self.is_asking = False
            for batch in batches:
                if batch in uploaded and batch.seen:
                    self._observe(time.perf_counter() - batch.committed_at)
                for answer in batch.answers:
                    answer(None if batch in uploaded else failure)

    def _take_all(self) -> list[Batch]:
        batches = []
        with suppress(Empty):
            while batch := self._queue.get_nowait():
                batches.append(batch)
            self._queue.put(None)  # it was taken, and ends the loop
        return batches

    def _upload(self, batches: Sequence[Batch], noted: FeedPosition) -> Sequence[Batch]:
        """Return which of `batches` the replica has, after an upload if that is not all.

        Raises:
            Unavailable, sqlite3.Error, OSError: nobody knows.
        """
        with self._database.reader() as db:
            file, end = db.identity, end_of(db)
            ours = [batch for batch in batches if batch.file == file]
            if is_proved(db, noted) and all(one.end and one.end <= noted for one in ours):
                return ours  # another process has uploaded them with its own
        self._seen = seen = self._sync()
        self._answered_at = time.monotonic()
        if file != self._database.identity():
            raise Unavailable("replica: the database was replaced")
        uploaded = [batch for batch in ours if seen > batch.seen]
        if any(batch.seen for batch in uploaded):
            note_replicated(self._database, end)
        return uploaded

    def _sync(self) -> int:
        """Return up to which transaction the replica has all; it has all that is committed by now.

        Raises:
            Unavailable: Litestream did not say so.
        Source: `POST /sync` of Litestream 0.5.17: it copies the WAL, then it uploads all it copied.
        """
        asked = json.dumps({"path": str(self._database.path), "wait": True})
        try:
            with closing(_Connection(self._socket_path)) as connection:
                connection.request("POST", "/sync", asked)
                with connection.getresponse() as response:
                    content = response.read(_MAX_ANSWER_BYTES)
        except (OSError, HTTPException) as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise Unavailable(f"replica: no answer from Litestream: {reason}") from None
        if response.status == HTTPStatus.OK:
            with suppress(ValidationError):
                return _Synced.model_validate_json(content).replicated_txid
        logger.warning("Litestream answered %d: %.500r", response.status, content)
        raise Unavailable(f"replica: Litestream answered {response.status}, see the log")


class _Connection(HTTPConnection):
    """Over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=_TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(_TIMEOUT_S)
        self.sock.connect(str(self._path))
