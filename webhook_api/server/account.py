"""The account of all bytes that a worker holds for its clients. Safe for threads."""

from threading import Condition, Lock

from webhook_api.server.states import Connection, State

_PATIENCE_S = 1.0  # of a thread, while the event loop takes from those who do not take anything


class Account:
    """What is held, and what threads make besides.

    The bound is of what is held: it can be taken back. What is being made counts for those who
    want to make more, and never stands in the way of a request that arrives.
    """

    def __init__(self, most: int) -> None:
        self.held = 0  # bytes: of requests that are not answered, and of answers not taken
        self._made = 0  # of answers that a thread has still
        self._most = most
        self._changed = Condition(Lock())  # guards all of it
        self._waiting = 0  # threads, for room

    @property
    def is_full(self) -> bool:
        """Whether more is held than may be."""
        return self.held > self._most

    def count(self, connection: Connection) -> None:
        """Bring the account up to date with what is held for a connection that no thread has."""
        self._set(connection, len(connection.inbox) + connection.working + connection.outbox.size)

    def forget(self, connection: Connection) -> None:
        """Count nothing any more for a connection that is ENDED."""
        self._set(connection, 0)

    def take(self, connection: Connection, size: int) -> None:
        """Count `size` bytes that a thread has made for a connection."""
        with self._changed:
            if connection.state is not State.ENDED:
                connection.made += size
                self._made += size

    def wait(self) -> bool:
        """Return when there is room to make more; False if that takes too long."""
        with self._changed:
            self._waiting += 1
            try:
                return self._changed.wait_for(self._has_room, _PATIENCE_S)
            finally:
                self._waiting -= 1

    def _has_room(self) -> bool:
        return self.held + self._made <= self._most

    def _set(self, connection: Connection, held: int) -> None:
        with self._changed:
            self.held += held - connection.held
            connection.held = held
            self._made -= connection.made
            connection.made = 0
            if self._waiting and self._has_room():
                self._changed.notify_all()


class ConnectionRoom:
    """The room that a request is given, see `webhook_api.room`."""

    __slots__ = ("_account", "_connection")

    def __init__(self, account: Account, connection: Connection) -> None:
        self._account = account
        self._connection = connection

    def wait(self) -> bool:
        """Return when there is room; False if that takes too long."""
        return self._account.wait()

    def take(self, size: int) -> None:
        """Count `size` bytes of the answer, until the event loop counts what is left of it."""
        self._account.take(self._connection, size)
