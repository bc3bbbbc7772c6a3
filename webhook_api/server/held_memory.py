"""Counts the bytes that a worker holds for its clients. Safe for threads."""

from threading import Condition, Lock

from webhook_api.server.states import ClientConnection, State

_PATIENCE_S = 1.0  # how long a thread waits until the event loop has freed memory


class HeldMemory:
    """Bytes that are held, and bytes of answers that threads are making.

    A new answer must wait if both together are above the bound. A new request is refused only
    if the held bytes alone are: these can be freed, by ending connections.
    """

    def __init__(self, most: int) -> None:
        self.held = 0  # bytes of requests without an answer, and of answers that are not sent
        self._made = 0  # bytes of answers that a thread still has
        self._most = most
        self._changed = Condition(Lock())  # guards all of it
        self._waiting = 0  # threads that wait for free memory

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
        """Wait until an answer may be made; return False if that takes too long."""
        with self._changed:
            self._waiting += 1
            try:
                return self._changed.wait_for(self._is_free, _PATIENCE_S)
            finally:
                self._waiting -= 1

    def _is_free(self) -> bool:
        return self.held + self._made <= self._most

    def _set(self, connection: ClientConnection, held: int) -> None:
        with self._changed:
            self.held += held - connection.held
            connection.held = held
            self._made -= connection.made
            connection.made = 0
            if self._waiting and self._is_free():
                self._changed.notify_all()


class ConnectionMemory:
    """The memory for the answer on one connection, see `reading.answer_memory.AnswerMemory`."""

    __slots__ = ("_connection", "_memory")

    def __init__(self, memory: HeldMemory, connection: ClientConnection) -> None:
        self._memory = memory
        self._connection = connection

    def wait(self) -> bool:
        """Wait until memory is free; return False if that takes too long."""
        return self._memory.wait()

    def take(self, size: int) -> None:
        """Count `size` bytes of the answer, until the event loop counts what is not sent of it."""
        self._memory.take(self._connection, size)
