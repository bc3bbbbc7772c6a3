"""What is on its way to a client: sent as fast as it is taken, without a wait for each part."""

import select
import socket
from collections import deque
from itertools import islice

_PARTS_AT_ONCE = 64  # well below IOV_MAX (sysconf(3))
_PIECE_BYTES = 64 * 1024


class NotTaken(ConnectionError):
    """The client has gone, or takes nothing."""


class Outbox:
    """The answers to one client. Gunicorn writes to it as if it were the socket.

    Used by one thread at a time: by the one that makes an answer, then by the event loop.
    """

    __slots__ = ("_gone", "_parts", "_sock", "size")

    def __init__(self, sock: socket.socket) -> None:
        self.size = 0  # bytes that it holds: of a part until all of it is sent
        self._sock = sock
        self._parts: deque[bytes] = deque()
        self._gone = 0  # bytes of the first part that are sent

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
                sent = self._sock.sendmsg(self._next())
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

    def shrink(self) -> None:
        """Keep only what is not sent, in pieces that are given up one by one as they are sent."""
        left = self._next(len(self._parts))
        self.clear()
        for part in left:
            for at in range(0, len(part), _PIECE_BYTES):
                self.sendall(bytes(memoryview(part)[at : at + _PIECE_BYTES]))

    def clear(self) -> None:
        """Forget what was not sent."""
        self._parts.clear()
        self.size = self._gone = 0

    def _next(self, most: int = _PARTS_AT_ONCE) -> list[bytes | memoryview]:
        parts: list[bytes | memoryview] = list(islice(self._parts, most))
        if self._gone:
            parts[0] = memoryview(self._parts[0])[self._gone :]
        return parts

    def _forget(self, sent: int) -> None:
        self._gone += sent
        while self._parts and self._gone >= len(self._parts[0]):
            part = len(self._parts.popleft())
            self._gone -= part
            self.size -= part

    # What else is asked of a socket. An application may look if its client is still there.

    def fileno(self) -> int:
        return self._sock.fileno()

    def recv(self, size: int, flags: int = 0) -> bytes:
        return self._sock.recv(size, flags)

    def gettimeout(self) -> float:
        return 0.0  # Gunicorn need not change it for the answers that it makes itself
