"""Connections without a server, and with a clock that only the test moves."""

import socket
from selectors import SelectSelector

from webhook_api.outcome import NotServed
from webhook_api.server.connections import Connections
from webhook_api.server.register import Register
from webhook_api.server.states import ClientConnection, Limits, State

LIMITS = Limits(
    other_body_bytes=1000,
    idle_s=5,
    receive_s=7,
    send_s=3,
    linger_s=2,
    stop_idle_s=1,
    held_bytes=9000,
)

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
HALF = b"POST / HTTP/1.1\r\nContent-Length: 900\r\n\r\n" + b"x" * 800


def state(connection: ClientConnection) -> State:
    return connection.state


class Bench:
    """Connections without a server: the test makes the answers, and decides when."""

    def __init__(self) -> None:
        self.now = 100.0
        self.poller = SelectSelector()
        self.given: list[tuple[ClientConnection, bytes, bool]] = []
        self.threads = True
        self.refused: list[NotServed] = []
        self.register = Register(LIMITS, self.poller, lambda: self.now)
        self.connections = Connections(LIMITS, self.register, self._answer, self.refused.append)
        self.clients: list[socket.socket] = []

    def _answer(self, connection: ClientConnection, request: bytes, whole: bool) -> None:
        if not self.threads:
            raise RuntimeError("can't start new thread")
        self.given.append((connection, request, whole))

    def connect(self, data: bytes = b"") -> tuple[socket.socket, ClientConnection]:
        client, server = socket.socketpair()
        for end in (client, server):
            end.setblocking(False)
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        client.sendall(data)
        self.clients.append(client)
        connection = ClientConnection(server, "client", "server")
        self.connections.add(connection)
        return client, connection

    def send(self, client: socket.socket, connection: ClientConnection, data: bytes) -> None:
        client.sendall(data)
        self.connections.ready(connection)

    def answer(self, connection: ClientConnection, data: bytes, keep: bool = True) -> None:
        connection.outbox.sendall(data)
        connection.outbox.push()
        self.connections.finished(connection, keep)

    def after(self, seconds: float) -> None:
        self.now += seconds
        self.connections.expire()

    def watched(self, connection: ClientConnection) -> int:
        return self.poller.get_map()[connection.sock].events if connection.watched else 0

    def held(self) -> int:
        return self.register.memory.held
