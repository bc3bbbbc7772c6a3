"""Clients that write bytes to the server, and what the server says of them afterwards."""

import re
import select
import socket
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

from tests.builders import a_message, encode, signed
from tests.serving import ANSWER_S, Server
from webhook_api.models import ImportedMessage, parse_message
from webhook_api.store import connections
from webhook_api.store.lock import unshared
from webhook_api.store.messages import insert_messages

CLOSE = "Connection: close"
GET = b"GET /health/live HTTP/1.1\r\nHost: x\r\n"  # to be ended with an empty line


def connect(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), ANSWER_S)


def read_all(client: socket.socket) -> bytes:
    """Return all bytes until the server closes the connection."""
    received = b""
    try:
        while part := client.recv(65_536):
            received += part
    except ConnectionResetError:
        pass
    return received


def read_reply(client: socket.socket) -> bytes:
    """Return one answer, which has a Content-Length."""
    received = b""
    while b"\r\n\r\n" not in received:
        part = client.recv(65_536)
        assert part, received
        received += part
    head, _, body = received.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
    while length and len(body) < int(length[1]):
        part = client.recv(65_536)
        assert part, received
        body += part
    return head + b"\r\n\r\n" + body


def exchange(server: Server, *parts: bytes) -> bytes:
    """Send `parts` one after the other, and return all that comes back."""
    with connect(server) as client:
        for part in parts:
            client.sendall(part)
            time.sleep(0.01)
        return read_all(client)


def a_delivery(
    *headers: str, message_id: str = "m1", framed: bool = True, **fields: str
) -> tuple[bytes, bytes]:
    """Return head and body of a signed delivery."""
    body = encode(a_message(message_id=message_id, **fields))
    lines = ["POST /webhook HTTP/1.1", "Host: x", f"X-Signature: {signed(body)['X-Signature']}"]
    if framed:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, *headers, "", ""]).encode(), body


def chunks(body: bytes, size: int) -> bytes:
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in [*parts, b""])


def status(reply: bytes) -> int:
    return int(reply.split(b" ", 2)[1])


def read_head(client: socket.socket) -> None:
    received = b""
    while b"\r\n\r\n" not in received:
        part = client.recv(1)
        assert part, received
        received += part


def readable(clients: list[socket.socket]) -> list[socket.socket]:
    """Return the clients that have something to read."""
    return select.select(clients, [], [], 0)[0]


def streams(server: Server) -> Counter[int]:
    return Counter(line["status"] for line in server.log if line.get("path") == "/messages")


def fill(database: Path, *, messages: int, text: str = "x" * 4096, prefix: str = "") -> None:
    """Store messages of 4 KiB, together more than the buffers of a socket hold."""
    with closing(unshared(connections.connect(database, "rw", timeout_s=5))) as writer:
        for number in range(0, messages, 50):
            insert_messages(
                writer,
                [
                    parse_message(
                        a_message(message_id=f"{prefix}{number + n}", text=text), ImportedMessage
                    )
                    for n in range(50)
                ],
            )


def not_served(server: Server) -> dict[str, int]:
    """Return how many requests never reached the application, by reason."""
    exposition = server.get("/metrics").body.decode()
    found = re.findall(r'^requests_refused_total\{reason="(\w+)"\} (\d+)', exposition, re.MULTILINE)
    return {reason: int(count) for reason, count in found}
