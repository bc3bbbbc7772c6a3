"""Whether the client of a request is still there."""

import select
import socket
from collections.abc import Callable, Mapping
from typing import Any


def whether_client_left(environ: Mapping[str, Any]) -> Callable[[], bool]:
    """Return a function that tells whether the client of a WSGI request has gone.

    A client that closed its side of the connection has gone; one that has sent its next request
    has not. If the server does not give us the socket, the function always says that it has not.
    """
    client: socket.socket | None = environ.get("gunicorn.socket")
    return lambda: client is not None and _has_closed(client)


def _has_closed(client: socket.socket) -> bool:
    # `recv` alone would wait: with a timeout a socket does, even with MSG_DONTWAIT.
    poll = select.poll()
    try:
        poll.register(client, select.POLLIN)
        return bool(poll.poll(0)) and not client.recv(1, socket.MSG_PEEK)
    except ValueError:
        # Closed by us; or TLS, where MSG_PEEK is not possible.
        return client.fileno() < 0
    except OSError:
        return True
