"""What happens to a connection: how it goes from one state to the next (see `states.py`).

Only the event loop calls this. Each step checks the state first: another event of the same batch
may have ended the connection a moment ago.
"""

import socket
from collections.abc import Callable
from contextlib import suppress

from webhook_api.outcome import NotServed
from webhook_api.server.busy import busy_answer
from webhook_api.server.framing import Arrival, Incoming
from webhook_api.server.held_memory import ConnectionMemory
from webhook_api.server.outbox import NotTaken
from webhook_api.server.register import Register
from webhook_api.server.states import ClientConnection, Limits, State

_RECEIVE_BYTES = 64 * 1024
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Connections:
    """All connections of a worker, which are in `register`.

    `answer` is called with each connection, the bytes of its request, and whether they are
    complete; it raises RuntimeError if there is no thread. `finished` must be called afterwards.
    """

    def __init__(
        self,
        limits: Limits,
        register: Register,
        answer: Callable[[ClientConnection, bytes, bool], None],
        when_refused: Callable[[NotServed], None],
    ) -> None:
        self.dropped = 0  # clients that did not take their answer
        self._limits = limits
        self._answer = answer
        self._when_refused = when_refused
        self._register = register
        self._memory = register.memory
        self._on_ready = {
            State.IDLE: self._receive,
            State.ARRIVING: self._receive,
            State.ANSWERING: self._stop_watching,
            State.SENDING: self._send,
            State.LINGERING: self._discard,
        }
        self._on_late = {
            State.IDLE: self._half_close,
            State.ARRIVING: self._stop_waiting,
            State.SENDING: self._drop,
            State.LINGERING: self.end,
        }

    def __len__(self) -> int:
        return len(self._register)

    def add(self, connection: ClientConnection) -> None:
        """Add a connection that was accepted."""
        self._register.move(connection, State.IDLE)
        self._receive(connection)

    def ready(self, connection: ClientConnection) -> None:
        """Do the next step of its state, now that the socket is ready."""
        if handle := self._on_ready.get(connection.state):
            handle(connection)

    def finished(self, connection: ClientConnection, keep: bool) -> None:
        """Go on after the answer was made; what is not sent of it is in the outbox."""
        if connection.state is State.ANSWERING:
            connection.working = 0
            connection.keep = keep
            self._go_on(connection)

    def refuse(self, connection: ClientConnection, reason: NotServed, request: bytes = b"") -> None:
        """Answer that there is no memory, thread or turn for a request that was not begun."""
        if connection.state is State.ENDED:
            return
        self._when_refused(reason)
        connection.inbox.clear()
        connection.working = 0
        connection.keep = False
        connection.outbox.sendall(busy_answer(reason, request))
        with suppress(NotTaken):
            connection.outbox.push()
        self._go_on(connection)

    def expire(self) -> None:
        """End or answer the connections that are late, each as its state requires."""
        for state, late in self._on_late.items():
            for connection in self._register.overdue(state):
                if connection.state is state:  # not ended meanwhile to free memory
                    late(connection)

    def free_one(self) -> bool:
        """End the connection whose end does the least harm; return whether there was one."""
        candidates = self._register.first(State.IDLE, State.ARRIVING, State.LINGERING)
        if oldest := next(candidates, None):
            self.end(oldest)
        return oldest is not None

    def stop(self) -> None:
        """Give idle connections only a short time, for a request that may be on its way."""
        self._register.shorten_idle(self._limits.stop_idle_s)

    def answer_memory(self, connection: ClientConnection) -> ConnectionMemory:
        """Return what counts the answer that is made for `connection`."""
        return ConnectionMemory(self._memory, connection)

    def end_all(self) -> None:
        """Close all connections."""
        for connection in list(self._register):
            self.end(connection)

    def end(self, connection: ClientConnection) -> None:
        """Close a connection, in any state."""
        if connection.state is not State.ENDED:
            self._register.remove(connection)

    def _stop_watching(self, connection: ClientConnection) -> None:
        # No more is needed now; and the socket of a client that has gone would always be ready.
        self._register.watch(connection, 0)

    def _receive(self, connection: ClientConnection) -> None:
        try:
            data = connection.sock.recv(_RECEIVE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            connection.inbox += data
            self._judge(connection)
        elif connection.inbox:
            self._stop_waiting(connection)
        else:
            self.end(connection)

    def _judge(self, connection: ClientConnection) -> None:
        """Let the first request in the inbox be answered, or wait for the rest of it."""
        if connection.incoming is None:
            limits = self._limits
            connection.incoming = Incoming(limits.body_bytes, limits.other_body_bytes)
        incoming = connection.incoming
        arrival = incoming.judge(connection.inbox)
        self._memory.count(connection)
        if arrival is Arrival.WHOLE:
            self._start_answer(connection, incoming.end, whole=True)
        elif arrival is Arrival.ENOUGH:
            self._stop_waiting(connection)
        else:
            if connection.state is not State.ARRIVING:
                self._register.move(connection, State.ARRIVING)
            if incoming.expects_continue:
                incoming.expects_continue = False
                with suppress(OSError):
                    connection.sock.send(_CONTINUE)
            self._free_memory()

    def _stop_waiting(self, connection: ClientConnection) -> None:
        """Let the incomplete request be answered: its end is missing, so the answer is a 408."""
        self._start_answer(connection, len(connection.inbox), whole=False)

    def _start_answer(self, connection: ClientConnection, end: int, *, whole: bool) -> None:
        state = connection.state
        is_free = self._free_memory()
        if connection.state is not state:
            return  # This connection itself was ended to free memory.
        if not is_free:
            self.refuse(connection, NotServed.NO_MEMORY)
            return
        request = bytes(connection.inbox[:end])
        del connection.inbox[:end]
        connection.incoming = None
        connection.working = len(request)
        self._register.move(connection, State.ANSWERING)
        try:
            self._answer(connection, request, whole)
        except RuntimeError:
            self.refuse(connection, NotServed.NO_THREAD, request)

    def _go_on(self, connection: ClientConnection) -> None:
        """Send what is left of the answer; then look at the next request, or half-close."""
        if connection.outbox.size:
            self._register.move(connection, State.SENDING)
            self._memory.count(connection)
            self._free_memory()
        elif not connection.keep:
            self._half_close(connection)
        else:
            # The inbox may have the next request, from before the last one was answered.
            self._register.move(connection, State.IDLE)
            self._memory.count(connection)
            if connection.inbox:
                self._judge(connection)

    def _send(self, connection: ClientConnection) -> None:
        try:
            progress = connection.outbox.push()
        except NotTaken:
            self._drop(connection)
            return
        if progress or not connection.outbox.size:
            self._go_on(connection)

    def _drop(self, connection: ClientConnection) -> None:
        self.dropped += 1
        self.end(connection)

    def _half_close(self, connection: ClientConnection) -> None:
        try:
            connection.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self.end(connection)
            return
        connection.inbox.clear()
        self._register.move(connection, State.LINGERING)
        self._memory.count(connection)

    def _discard(self, connection: ClientConnection) -> None:
        try:
            more = connection.sock.recv(_RECEIVE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            more = b""
        if not more:
            self.end(connection)

    def _free_memory(self) -> bool:
        """End or refuse connections, oldest first, until memory is free; return whether it is.

        First those that do not take their answer: those that send may be delivering a message.
        """
        while self._memory.is_full:
            oldest = next(self._register.first(State.SENDING, State.ARRIVING), None)
            if oldest is None:
                return False
            if oldest.state is State.SENDING:
                self._drop(oldest)
            else:
                self.refuse(oldest, NotServed.NO_MEMORY)
        return True
