"""The listening sockets: accepts clients, as long as there may be more."""

from collections.abc import Callable, Sequence
from selectors import EVENT_READ, BaseSelector
from typing import Any

from webhook_api.server.connections import Connections
from webhook_api.server.states import ClientConnection


class Listeners:
    """All sockets that a worker accepts from.

    `add` is called with each new connection. Only the event loop calls what is here.
    """

    def __init__(
        self,
        sockets: Sequence[Any],
        poller: BaseSelector,
        connections: Connections,
        add: Callable[[ClientConnection], None],
        most: int,
    ) -> None:
        """Accept `most` connections at a time."""
        self.trouble: OSError | None = None  # why accepting has paused
        self._sockets = sockets
        self._poller = poller
        self._connections = connections
        self._add = add
        self._most = most
        self._is_open = False
        for listener in sockets:
            listener.setblocking(False)

    def open(self) -> None:
        """Begin to accept."""
        if not self._is_open:
            self._is_open = True
            for listener in self._sockets:
                self._poller.register(listener, EVENT_READ)

    def pause(self) -> None:
        """Stop accepting until `open`; clients wait in the kernel's queue."""
        if self._is_open:
            self._is_open = False
            for listener in self._sockets:
                self._poller.unregister(listener)

    def accept(self, listener: Any) -> bool:
        """Accept one connection; return whether there was one."""
        if len(self._connections) >= self._most and not self._connections.free_one():
            self.pause()
            return False
        try:
            sock, client = listener.accept()
        except (BlockingIOError, ConnectionAbortedError, InterruptedError):
            return False
        except OSError as error:  # EMFILE and the like
            self.trouble = error
            if not self._connections.free_one():
                self.pause()
            return False
        sock.setblocking(False)
        self._add(ClientConnection(sock, client, listener.getsockname()))
        return True

    def close(self, backlog: int) -> None:
        """Accept the clients in the kernel's queue, which would otherwise be reset; then close."""
        for listener in self._sockets:
            for _ in range(backlog):
                if not self.accept(listener):
                    break
        self.pause()
        for listener in self._sockets:
            listener.close()
