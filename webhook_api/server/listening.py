"""The listening sockets: takes in clients, as long as there is room for more."""

from collections.abc import Callable, Sequence
from selectors import EVENT_READ, BaseSelector
from typing import Any

from webhook_api.server.connections import Connections
from webhook_api.server.states import Connection


class Listeners:
    """All sockets that a worker accepts from.

    `add` is called with each new connection. Only the event loop calls what is here.
    """

    def __init__(
        self,
        sockets: Sequence[Any],
        poller: BaseSelector,
        connections: Connections,
        add: Callable[[Connection], None],
        most: int,
    ) -> None:
        """Have `most` connections at a time."""
        self.trouble: OSError | None = None  # why accepting has stopped until it is opened again
        self._sockets = sockets
        self._poller = poller
        self._connections = connections
        self._add = add
        self._most = most
        self._is_open = False
        for listener in sockets:
            listener.setblocking(False)

    def open(self) -> None:
        """Let the poller look for clients."""
        if not self._is_open:
            self._is_open = True
            for listener in self._sockets:
                self._poller.register(listener, EVENT_READ)

    def pause(self) -> None:
        """Let clients wait in the kernel's queue, until `open`."""
        if self._is_open:
            self._is_open = False
            for listener in self._sockets:
                self._poller.unregister(listener)

    def accept(self, listener: Any) -> bool:
        """Take in one connection, and return if there was one."""
        if len(self._connections) >= self._most and not self._connections.make_place():
            self.pause()
            return False
        try:
            sock, client = listener.accept()
        except (BlockingIOError, ConnectionAbortedError, InterruptedError):
            return False
        except OSError as error:  # EMFILE and the like
            self.trouble = error
            if not self._connections.make_place():
                self.pause()
            return False
        sock.setblocking(False)
        self._add(Connection(sock, client, listener.getsockname()))
        return True

    def close(self, backlog: int) -> None:
        """Take in those that the kernel has already accepted, who would be reset, and no more."""
        for listener in self._sockets:
            for _ in range(backlog):
                if not self.accept(listener):
                    break
        self.pause()
        for listener in self._sockets:
            listener.close()
