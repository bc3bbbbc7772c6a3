"""Asks Litestream whether the replica has what was committed (ACK_AFTER=replica).

The thread `replica` of a process does it, so that only this thread waits for an upload. The writing
thread gives it each batch after the commit, and goes on. An upload has everything that was
committed before it began, also by other processes, so only one process at a time asks for one. If
anything fails, no batch is acknowledged: its messages are on disk, and their repeats are
duplicates.
"""

import json
import logging
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Literal

from pydantic import BaseModel, ConfigDict, PositiveInt, ValidationError

from webhook_api.errors import SchemaError, Unavailable
from webhook_api.models import FeedPosition
from webhook_api.store.connections import FileIdentity
from webhook_api.store.database import Database
from webhook_api.store.positions import end_of, is_proved, note_replicated, one_uploads

logger = logging.getLogger(__name__)

Callback = Callable[[Exception | None], None]  # is told why there is no acknowledgement

# Litestream itself gives up after 30 s. Deliveries are answered 503 long before, but the request
# goes on: another one would only wait behind the upload that hangs.
_TIMEOUT_S = 35.0
_FIRST_ANSWER_S = 1.0
_MAX_ANSWER_BYTES = 64 * 1024


@dataclass(frozen=True, eq=False)
class Batch:
    """What one transaction has put on disk, and who waits for it."""

    callbacks: Sequence[Callback]
    file: FileIdentity  # that it was committed to
    seen: int  # see `Replica.seen`
    end: FeedPosition | None  # of the feed, if it has new messages and nothing else
    committed_at: float = field(default_factory=time.perf_counter)


class _Synced(BaseModel):
    """The answer to POST /sync: the replica has all up to a transaction, in Litestream's count."""

    model_config = ConfigDict(strict=True)

    status: Literal["synced", "no_change"]  # the second: all was uploaded before
    replicated_txid: PositiveInt


def refusal_of(error: Exception) -> Exception:
    """Return what a request is told of `error`: 503, unless it is a bug."""
    if isinstance(error, sqlite3.Error | SchemaError):
        return Unavailable(f"database: {error}")
    if isinstance(error, OSError):
        return Unavailable(f"database: {error.strerror}")
    return error


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
        """Return the last transaction of which Litestream has said that the replica has it.

        The writing thread calls this before a commit. After the commit, Litestream must name a
        later transaction; if it follows another file, which nobody writes, it does not. Before its
        first answer, this asks Litestream, and waits for a second at most.

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
            except Exception as error:
                failure = refusal_of(error)  # everybody is told, and the next batch is tried
            self.is_asking = False
            for batch in batches:
                if batch in uploaded and batch.seen:
                    self._observe(time.perf_counter() - batch.committed_at)
                for callback in batch.callbacks:
                    callback(None if batch in uploaded else failure)

    def _take_all(self) -> list[Batch]:
        batches = []
        with suppress(Empty):
            while batch := self._queue.get_nowait():
                batches.append(batch)
            self._queue.put(None)  # it was taken, and ends the loop
        return batches

    def _upload(self, batches: Sequence[Batch], noted: FeedPosition) -> Sequence[Batch]:
        """Return those of `batches` that the replica has. `noted` is the end of the last upload.

        Raises:
            Unavailable, sqlite3.Error, OSError: nobody knows.
        """
        with self._database.reader() as db:
            file, end = db.identity, end_of(db)
            ours = [batch for batch in batches if batch.file == file]
            if is_proved(db, noted) and all(one.end and one.end <= noted for one in ours):
                return ours  # the last upload, of another process, had them
        self._seen = seen = self._sync()
        self._answered_at = time.monotonic()
        if file != self._database.identity():
            raise Unavailable("replica: the database was replaced")
        uploaded = [batch for batch in ours if seen > batch.seen]
        if any(batch.seen for batch in uploaded):
            note_replicated(self._database, end)
        return uploaded

    def _sync(self) -> int:
        """Upload all that is committed by now; return the last transaction of it.

        Raises:
            Unavailable: Litestream did not say so.
        Source: `POST /sync` of Litestream 0.5.17: it copies the WAL, then it uploads all it copied.
        """
        asked = json.dumps({"path": str(self._database.path), "wait": True})
        try:
            with socket.socket(socket.AF_UNIX) as sock:
                sock.settimeout(_TIMEOUT_S)
                sock.connect(str(self._socket_path))
                connection = HTTPConnection("localhost")
                connection.sock = sock  # so it does not connect by itself
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
