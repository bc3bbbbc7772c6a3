"""The states of a connection, and what is known about it.

A connection is in exactly one state:

| state     | waits for                             | at most       | then                         |
|-----------|---------------------------------------|---------------|------------------------------|
| IDLE      | the first byte of a request           | `idle_s`      | LINGERING                    |
| ARRIVING  | the rest of a request                 | `receive_s`   | ANSWERING with what is here  |
| ANSWERING | a greenlet or a thread                |               | (nothing is read meanwhile)  |
| SENDING   | the client, to take the answer        | `send_s` each | ENDED                        |
| LINGERING | the client, to read its last answer   | `linger_s`    | ENDED                        |
| ENDED     | nothing: it is closed                 |               |                              |

A request goes IDLE -> ARRIVING -> ANSWERING -> SENDING -> IDLE; a state without a wait is left out.
A connection that is not kept goes on to LINGERING: if it were closed while the client still sends,
the client could lose the answer (RFC 9112, 9.6).
"""

import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

from webhook_api.server.framing import Incoming
from webhook_api.server.outbox import Outbox
from webhook_api.shares import Kind, Share


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much time, memory and threads a worker spends on clients."""

    body_bytes: Mapping[str, int] = field(default_factory=dict)  # longest body, by its path
    other_body_bytes: int = 16 * 1024  # longest body on other paths, where nobody reads it
    idle_s: float = 5.0  # until the first byte of a request
    receive_s: float = 5.0  # from the first byte until the last
    send_s: float = 5.0  # in which the client takes nothing of the answer
    linger_s: float = 2.0  # for the client to read our last answer and close
    stop_idle_s: float = 2.0  # replaces idle_s when the worker stops
    kind_of: Callable[[bytes], Kind | None] = lambda _: None  # from the bytes of a request
    shares: Mapping[Kind, Share] = field(default_factory=dict)  # of the threads, by the kind
    reads_at_once: int = 16  # threads for all requests that have a kind
    held_bytes: int = 48 * 1024 * 1024  # requests without an answer, and answers not sent


class State(Enum):
    """See the table above."""

    IDLE = auto()
    ARRIVING = auto()
    ANSWERING = auto()
    SENDING = auto()
    LINGERING = auto()
    ENDED = auto()

    __hash__ = object.__hash__  # that of Enum is slow Python code, which each request would call


class ClientConnection:
    """A client, and what is held for it. Only the event loop changes its state."""

    __slots__ = (
        "client", "deadline", "held", "inbox", "incoming", "keep", "made", "outbox", "server",
        "sock", "state", "watched", "working",
    )  # fmt: skip

    def __init__(self, sock: socket.socket, client: Any, server: Any) -> None:
        self.sock = sock
        self.client = client  # its address
        self.server = server  # our address that it connected to
        self.state = State.IDLE
        self.deadline = 0.0
        self.watched = 0  # the events that the poller looks for
        self.inbox = bytearray()  # received bytes that are not being answered
        self.incoming: Incoming | None = None  # the request that the inbox begins with
        self.working = 0  # bytes of the request that is being answered
        self.made = 0  # bytes of its answer, as the application says
        self.outbox = Outbox(sock)
        self.keep = True  # whether it may send another request
        self.held = 0  # bytes, when they were last counted
