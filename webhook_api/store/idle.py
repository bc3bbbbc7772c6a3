"""Readers that nobody uses now. The next one who needs a reader takes it, and opens no file."""

import sqlite3
import threading
from contextlib import suppress

from webhook_api.store.connections import Connection, FileIdentity
from webhook_api.store.lending import LendingError


class IdleReaders:
    """At most `most` open connections, each of them lent to nobody."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._mutex = threading.Lock()  # guards the next one, and `lent` of each reader
        self._readers: list[Connection] = []

    def __len__(self) -> int:
        return len(self._readers)

    def take(self, identity: FileIdentity) -> Connection | None:
        """Return a reader of that file, which is lent now; None if there is none."""
        with self._mutex:
            # First the one that was used last: it has most in its cache.
            for at in reversed(range(len(self._readers))):
                if self._readers[at].identity == identity:
                    self._readers[at].lent = True
                    return self._readers.pop(at)
        return None

    def put(self, reader: Connection, *, reusable: bool) -> None:
        """Take back a lent reader, even in the middle of a transaction; close it if not `reusable`.

        Raises:
            LendingError: it is not lent; somebody else may use it by now.
        """
        with self._mutex:
            if not reader.lent:
                raise LendingError("a connection was returned that is not lent")
            reader.lent = False
        with suppress(sqlite3.Error):
            if reader.in_transaction:
                reader.rollback()
            with self._mutex:
                if reusable and len(self._readers) < self._most:
                    self._readers.append(reader)
                    return
        reader.close()

    def close_all_but(self, identity: FileIdentity | None) -> None:
        """Close the readers of all other files, which would keep the disk space of these."""
        with self._mutex:
            others = [reader for reader in self._readers if reader.identity != identity]
            self._readers = [reader for reader in self._readers if reader.identity == identity]
        for reader in others:
            reader.close()
