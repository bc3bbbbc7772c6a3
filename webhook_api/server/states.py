"""What a connection can be in the middle of, and what is known of it.

Each is in exactly one state:

| state     | waits for                             | at most       | then                         |
|-----------|---------------------------------------|---------------|------------------------------|
| IDLE      | the first byte of a request           | `idle_s`      | LINGERING                    |
| ARRIVING  | the rest of a request                 | `receive_s`   | ANSWERING with what is here  |
| ANSWERING | a thread                              | the thread's  | (nothing is read meanwhile)  |
| SENDING   | the client, to take the answer        | `send_s` each | ENDED                        |
| LINGERING | the client, to read its last answer   | `linger_s`    | ENDED                        |
| ENDED     | nothing: it is closed, and forgotten  |               |                              |

IDLE -> ARRIVING -> ANSWERING -> SENDING -> IDLE is the whole way of a request; what need not wait
is passed over. A connection that is not kept goes on to LINGERING: closed at once, while the client
still sends, it would lose the answer (RFC 9112, 9.6).

Only the event loop calls what is here. It looks at the state first: a connection may have been
ended a moment ago, when another event of the same batch was looked at.
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
    """What clients may take of a worker."""

    body_bytes: Mapping[str, int] = field(default_factory=dict)  # at most, by the path
    other_body_bytes: int = 16 * 1024  # on other paths, where nobody reads it
    idle_s: float = 5.0  # until the first byte of a request
    receive_s: float = 5.0  # from there until all of it
    send_s: float = 5.0  # without any of the answer being taken
    linger_s: float = 2.0  # for the client to read our last answer and close
    stop_idle_s: float = 2.0  # as idle_s, once the worker is to stop
    kind_of: Callable[[bytes], Kind | None] = lambda _: None  # of a request, by its bytes
    shares: Mapping[Kind, Share] = field(default_factory=dict)  # of the threads, by the kind
    reads_at_once: int = 16  # of all requests that have a kind: the others may have any thread
    held_bytes: int = 48 * 1024 * 1024  # of all that has come and is not answered, or not taken


class State(Enum):
    """See the table above."""

    IDLE = auto()
    ARRIVING = auto()
    ANSWERING = auto()
    SENDING = auto()
    LINGERING = auto()
    ENDED = auto()

    __hash__ = object.__hash__  # that of Enum is Python code, and each request asks for it


class Connection:
    """A client, and what is held for it."""

    __slots__ = (
        "client", "deadline", "held", "inbox", "incoming", "keep", "made", "outbox", "server",
        "sock", "state", "watched", "working",
    )  # fmt: skip

    def __init__(self, sock: socket.socket, client: Any, server: Any) -> None:
        self.sock = sock
        self.client = client  # its address
        self.server = server  # the address that it asked
        self.state = State.IDLE
        self.deadline = 0.0
        self.watched = 0  # the events that the poller looks for
        self.inbox = bytearray()  # what has come and no thread was given
        self.incoming: Incoming | None = None  # the request that the inbox begins with
        self.working = 0  # bytes of the request that a thread has
        self.made = 0  # bytes of the answer that it has made of it, as it said itself
        self.outbox = Outbox(sock)
        self.keep = True  # for another request
        self.held = 0  # bytes, as counted when it was last looked at
