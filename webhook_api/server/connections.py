"""What happens to a connection: from one state to the next, whatever its client does.

The states are in `states`. Only the event loop calls what is here. It looks at the state first: a
connection may have been ended a moment ago, when another event of the same batch was looked at.
"""

import socket
import time
from collections.abc import Callable
from contextlib import suppress
from selectors import BaseSelector

from webhook_api.outcome import NotServed
from webhook_api.server.account import ConnectionRoom
from webhook_api.server.busy import busy_answer
from webhook_api.server.framing import Arrival, Incoming
from webhook_api.server.outbox import NotTaken
from webhook_api.server.register import Register
from webhook_api.server.states import Connection, Limits, State

_RECEIVE_BYTES = 64 * 1024
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Connections:
    """All connections of a worker.

    `answer` is called with each request, its bytes, and whether that is all of it; it raises
    RuntimeError if there is no thread. `finished` must be called when that is done.
    """

    def __init__(
        self,
        limits: Limits,
        poller: BaseSelector,
        answer: Callable[[Connection, bytes, bool], None],
        when_refused: Callable[[NotServed], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.dropped = 0  # clients that did not take their answer
        self._limits = limits
        self._answer = answer
        self._when_refused = when_refused
        self._register = Register(limits, poller, clock)
        self._account = self._register.account
        self._on_ready = {
            State.IDLE: self._receive,
            State.ARRIVING: self._receive,
            State.ANSWERING: self._look_away,
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

    def add(self, connection: Connection) -> None:
        """Take in a connection that was accepted."""
        self._register.move(connection, State.IDLE)
        self._receive(connection)

    def ready(self, connection: Connection) -> None:
        """Do what its state asks for, now that the socket is ready."""
        if handle := self._on_ready.get(connection.state):
            handle(connection)

    def finished(self, connection: Connection, keep: bool) -> None:
        """Go on after a thread has made the answer, which may be in the outbox."""
        if connection.state is State.ANSWERING:
            connection.working = 0
            connection.keep = keep
            self._go_on(connection)

    def refuse(self, connection: Connection, reason: NotServed, request: bytes = b"") -> None:
        """Answer that there is no room, thread or turn for a request that no thread has begun."""
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
        """Go on without those whose time is over."""
        for state, late in self._on_late.items():
            for connection in self._register.overdue(state):
                if connection.state is state:  # not ended to make room for one before it
                    late(connection)

    def make_place(self) -> bool:
        """End the connection that is missed least, and return if there was one."""
        candidates = self._register.first(State.IDLE, State.ARRIVING, State.LINGERING)
        if oldest := next(candidates, None):
            self.end(oldest)
        return oldest is not None

    def stop(self) -> None:
        """Give those that are idle a short time only: their next request may be on its way."""
        self._register.shorten_idle(self._limits.stop_idle_s)

    def room(self, connection: Connection) -> ConnectionRoom:
        """Return what counts the answer that a thread makes for `connection`."""
        return ConnectionRoom(self._account, connection)

    def end_all(self) -> None:
        """Close all."""
        for connection in list(self._register):
            self.end(connection)

    def end(self, connection: Connection) -> None:
        """Close a connection, whatever it waits for."""
        if connection.state is not State.ENDED:
            self._register.remove(connection)

    def _look_away(self, connection: Connection) -> None:
        # Enough is here already; and a client that has gone would be ready for ever.
        self._register.watch(connection, 0)

    def _receive(self, connection: Connection) -> None:
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

    def _judge(self, connection: Connection) -> None:
        """Give the request that the inbox begins with to a thread, or wait for the rest."""
        if connection.incoming is None:
            limits = self._limits
            connection.incoming = Incoming(limits.body_bytes, limits.other_body_bytes)
        incoming = connection.incoming
        arrival = incoming.judge(connection.inbox)
        self._account.count(connection)
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
            self._make_room()

    def _stop_waiting(self, connection: Connection) -> None:
        """Let what is here be answered: the parser finds the end too early, which makes a 408."""
        self._start_answer(connection, len(connection.inbox), whole=False)

    def _start_answer(self, connection: Connection, end: int, *, whole: bool) -> None:
        state = connection.state
        room = self._make_room()
        if connection.state is not state:
            return  # It was this one that had to make room.
        if not room:
            self.refuse(connection, NotServed.NO_ROOM)
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

    def _go_on(self, connection: Connection) -> None:
        """Send what is left of the answer; then look at the next request, or take leave."""
        if connection.outbox.size:
            self._register.move(connection, State.SENDING)
            self._account.count(connection)
            self._make_room()
        elif not connection.keep:
            self._half_close(connection)
        else:
            # Never received while the last one was answered, but maybe before.
            self._register.move(connection, State.IDLE)
            self._account.count(connection)
            if connection.inbox:
                self._judge(connection)

    def _send(self, connection: Connection) -> None:
        try:
            progress = connection.outbox.push()
        except NotTaken:
            self._drop(connection)
            return
        if progress or not connection.outbox.size:
            self._go_on(connection)

    def _drop(self, connection: Connection) -> None:
        self.dropped += 1
        self.end(connection)

    def _half_close(self, connection: Connection) -> None:
        try:
            connection.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self.end(connection)
            return
        connection.inbox.clear()
        self._register.move(connection, State.LINGERING)
        self._account.count(connection)

    def _discard(self, connection: Connection) -> None:
        try:
            more = connection.sock.recv(_RECEIVE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            more = b""
        if not more:
            self.end(connection)

    def _make_room(self) -> bool:
        """Take what is held back under its bound, from those who wait longest, if it can be.

        First from who does not take an answer: whoever sends may be delivering a message.
        """
        while self._account.is_full:
            oldest = next(self._register.first(State.SENDING, State.ARRIVING), None)
            if oldest is None:
                return False
            if oldest.state is State.SENDING:
                self._drop(oldest)
            else:
                self.refuse(oldest, NotServed.NO_ROOM)
        return True
