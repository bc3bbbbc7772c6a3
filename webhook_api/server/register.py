"""Which connection is in which state, and until when."""

import time
from collections.abc import Callable, Iterator
from itertools import chain, takewhile
from selectors import EVENT_READ, EVENT_WRITE, BaseSelector

from webhook_api.server.held_memory import HeldMemory
from webhook_api.server.states import ClientConnection, Limits, State

_WATCHED = {
    State.IDLE: EVENT_READ,
    State.ARRIVING: EVENT_READ,
    State.SENDING: EVENT_WRITE,
    State.LINGERING: EVENT_READ,
}


class Register:
    """All connections of a worker: the only place where a state changes."""

    def __init__(
        self, limits: Limits, poller: BaseSelector, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.memory = HeldMemory(limits.held_bytes)
        self._poller = poller
        self._clock = clock
        self._times = {
            State.IDLE: limits.idle_s,
            State.ARRIVING: limits.receive_s,
            State.SENDING: limits.send_s,
            State.LINGERING: limits.linger_s,
        }
        # In the order of deadlines, since in one state all have the same time.
        self._all: dict[State, dict[ClientConnection, None]] = {state: {} for state in State}

    def __len__(self) -> int:
        return sum(map(len, self._all.values()))

    def __iter__(self) -> Iterator[ClientConnection]:
        return self.first(*State)

    def first(self, *states: State) -> Iterator[ClientConnection]:
        """Return the connections in these states, state by state, the next deadline first."""
        return chain.from_iterable(self._all[state] for state in states)

    def overdue(self, state: State) -> list[ClientConnection]:
        """Return the connections in `state` whose deadline has passed."""
        now = self._clock()
        return list(takewhile(lambda one: one.deadline <= now, self._all[state]))

    def move(self, connection: ClientConnection, state: State) -> None:
        """Put `connection` into `state`, and set its deadline."""
        self._all[connection.state].pop(connection, None)
        self._all[state][connection] = None
        connection.state = state
        if state is State.ANSWERING:
            return  # An event is unlikely now; to stop watching and begin again would cost more.
        connection.deadline = self._clock() + self._times[state]
        self.watch(connection, _WATCHED[state])

    def remove(self, connection: ClientConnection) -> None:
        """Close `connection` and remove it."""
        del self._all[connection.state][connection]
        connection.state = State.ENDED
        self.watch(connection, 0)
        connection.sock.close()
        self.memory.forget(connection)

    def watch(self, connection: ClientConnection, events: int) -> None:
        """Let the poller watch for `events` (0: none)."""
        if connection.watched == events:
            return
        if not connection.watched:
            self._poller.register(connection.sock, events, connection)
        elif events:
            self._poller.modify(connection.sock, events, connection)
        else:
            self._poller.unregister(connection.sock)
        connection.watched = events

    def shorten_idle(self, time_s: float) -> None:
        """Let idle connections wait for `time_s` seconds at most, now and from now on."""
        self._times[State.IDLE] = min(self._times[State.IDLE], time_s)
        latest = self._clock() + self._times[State.IDLE]
        for connection in self._all[State.IDLE]:
            connection.deadline = min(connection.deadline, latest)
