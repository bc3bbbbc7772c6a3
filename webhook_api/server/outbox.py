"""What is on its way to a client: sent as fast as it is taken, without a wait for each part."""

import select
import socket
from collections import deque
from itertools import islice

_PARTS_AT_ONCE = 64  # well below IOV_MAX (sysconf(3))


class NotTaken(ConnectionError):
    """The client has gone, or takes nothing."""


class Outbox:
    """The answers to one client. Gunicorn writes to it as if it were the socket.

    Used by one thread at a time: by the one that makes an answer, then by the event loop.
    """

    __slots__ = ("_parts", "_sock", "size")

    def __init__(self, sock: socket.socket) -> None:
        self.size = 0  # bytes
        self._sock = sock
        self._parts: deque[memoryview | bytes] = deque()

    def sendall(self, data: bytes) -> None:
        """Keep `data` until `push` or `flush` sends it."""
        if data:
            self._parts.append(data)
            self.size += len(data)

    def push(self) -> int:
        """Send what the client takes at once, and return how many bytes that is.

        Raises:
            NotTaken: the client has gone; nothing is left to be sent.
        """
        pushed = 0
        try:
            while self._parts:
                sent = self._sock.sendmsg(list(islice(self._parts, _PARTS_AT_ONCE)))
                self._forget(sent)
                pushed += sent
        except BlockingIOError:
            pass
        except OSError as error:
            self.clear()
            raise NotTaken(str(error)) from None
        return pushed

    def flush(self, patience_s: float) -> None:
        """Send all of it, waiting for the client as long as it takes something.

        Raises:
            NotTaken: it took nothing for so many seconds, or has gone.
        """
        self.push()
        if self._parts:
            room = select.poll()
            room.register(self._sock, select.POLLOUT)
            while self._parts:
                if not room.poll(patience_s * 1000):
                    self.clear()
                    raise NotTaken(f"nothing was taken for {patience_s} s")
                self.push()

    def clear(self) -> None:
        """Forget what was not sent."""
        self._parts.clear()
        self.size = 0

    def _forget(self, sent: int) -> None:
        self.size -= sent
        while sent:
            part = self._parts.popleft()
            if sent < len(part):
                self._parts.appendleft(memoryview(part)[sent:])
                return
            sent -= len(part)

    # What else is asked of a socket. An application may look if its client is still there.

    def fileno(self) -> int:
        return self._sock.fileno()

    def recv(self, size: int, flags: int = 0) -> bytes:
        return self._sock.recv(size, flags)

    def gettimeout(self) -> float:
        return 0.0  # Gunicorn need not change it for the answers that it makes itself
