"""Whether the client of a request is still there."""

import select
import socket
from collections.abc import Callable, Mapping
from typing import Any


def absence(environ: Mapping[str, Any]) -> Callable[[], bool]:
    """Return a function that tells whether the client of a WSGI request has gone.

    One that closed its side while it waits for the answer counts as gone. One that has sent its
    next request is there. Where the server does not give its socket, the client always is.
    """
    client: socket.socket | None = environ.get("gunicorn.socket")
    return lambda: client is not None and _has_closed(client)


def _has_closed(client: socket.socket) -> bool:
    # `recv` alone would wait: a socket with a timeout does, whatever its flags.
    poll = select.poll()
    try:
        poll.register(client, select.POLLIN)
        return bool(poll.poll(0)) and not client.recv(1, socket.MSG_PEEK)
    except ValueError:
        # Closed by us; or TLS, of which one cannot peek.
        return client.fileno() < 0
    except OSError:
        return True
