"""Counts the bytes that a worker holds for its clients. Safe for threads."""

from threading import Condition, Lock

from webhook_api.server.states import ClientConnection, State

_PATIENCE_S = 1.0  # how long a thread waits until the event loop has freed memory


class Account:
    """Bytes that are held, and bytes of answers that threads are making.

    A new answer must wait if both together are above the bound. A new request is refused only
    if the held bytes alone are: these can be freed, by ending connections.
    """

    def __init__(self, most: int) -> None:
        self.held = 0  # bytes of requests without an answer, and of answers that are not sent
        self._made = 0  # bytes of answers that a thread still has
        self._most = most
        self._changed = Condition(Lock())  # guards all of it
        self._waiting = 0  # threads that wait for room

    @property
    def is_full(self) -> bool:
        """Whether more is held than allowed."""
        return self.held > self._most

    def count(self, connection: ClientConnection) -> None:
        """Count again what is held for a connection that no thread uses now."""
        self._set(connection, len(connection.inbox) + connection.working + connection.outbox.size)

    def forget(self, connection: ClientConnection) -> None:
        """Count nothing for a connection that is ENDED."""
        self._set(connection, 0)

    def take(self, connection: ClientConnection, size: int) -> None:
        """Count `size` bytes that a thread has made for a connection."""
        with self._changed:
            if connection.state is not State.ENDED:
                connection.made += size
                self._made += size

    def wait(self) -> bool:
        """Wait until there is room to make more; return False if that takes too long."""
        with self._changed:
            self._waiting += 1
            try:
                return self._changed.wait_for(self._has_room, _PATIENCE_S)
            finally:
                self._waiting -= 1

    def _has_room(self) -> bool:
        return self.held + self._made <= self._most

    def _set(self, connection: ClientConnection, held: int) -> None:
        with self._changed:
            self.held += held - connection.held
            connection.held = held
            self._made -= connection.made
            connection.made = 0
            if self._waiting and self._has_room():
                self._changed.notify_all()


class ConnectionRoom:
    """The room that a request is given, see `reading.room.Room`."""

    __slots__ = ("_account", "_connection")

    def __init__(self, account: Account, connection: ClientConnection) -> None:
        self._account = account
        self._connection = connection

    def wait(self) -> bool:
        """Wait until there is room; return False if that takes too long."""
        return self._account.wait()

    def take(self, size: int) -> None:
        """Count `size` bytes of the answer, until the event loop counts what is not sent of it."""
        self._account.take(self._connection, size)
