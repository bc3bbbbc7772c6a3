"""What is to be sent to a client: sent as fast as the client takes it."""

import select
import socket
from collections import deque
from itertools import islice

_PARTS_AT_ONCE = 64  # well below IOV_MAX (sysconf(3))
_PIECE_BYTES = 64 * 1024


class NotTaken(ConnectionError):
    """The client has gone, or takes nothing of its answer."""


class Outbox:
    """The answers to one client. Gunicorn writes to it like to a socket.

    One thread at a time uses it: first the one that makes an answer, then the event loop's.
    """

    __slots__ = ("_parts", "_sent", "_sock", "size")

    def __init__(self, sock: socket.socket) -> None:
        self.size = 0  # bytes that it holds; a part is held until all of it is sent
        self._sock = sock
        self._parts: deque[bytes] = deque()
        self._sent = 0  # bytes of the first part that are sent

    def sendall(self, data: bytes) -> None:
        """Keep `data` until `push` or `flush` sends it."""
        if data:
            self._parts.append(data)
            self.size += len(data)

    def push(self) -> int:
        """Send what the client takes at once; return how many bytes these are.

        Raises:
            NotTaken: the client has gone; the rest was dropped.
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
        """Send everything, and wait for the client if necessary.

        Raises:
            NotTaken: the client took nothing for `patience_s` seconds, or has gone.
        """
        self.push()
        if self._parts:
            poll = select.poll()
            poll.register(self._sock, select.POLLOUT)
            while self._parts:
                if not poll.poll(patience_s * 1000):
                    self.clear()
                    raise NotTaken(f"nothing was taken for {patience_s} s")
                self.push()

    def shrink(self) -> None:
        """Copy what is not sent into small pieces, so that memory is freed while these are sent."""
        left = self._next(len(self._parts))
        self.clear()
        for part in left:
            for at in range(0, len(part), _PIECE_BYTES):
                self.sendall(bytes(memoryview(part)[at : at + _PIECE_BYTES]))

    def clear(self) -> None:
        """Drop what was not sent."""
        self._parts.clear()
        self.size = self._sent = 0

    def _next(self, most: int = _PARTS_AT_ONCE) -> list[bytes | memoryview]:
        parts: list[bytes | memoryview] = list(islice(self._parts, most))
        if self._sent:
            parts[0] = memoryview(self._parts[0])[self._sent :]
        return parts

    def _forget(self, sent: int) -> None:
        self._sent += sent
        while self._parts and self._sent >= len(self._parts[0]):
            part = len(self._parts.popleft())
            self._sent -= part
            self.size -= part

    # Other methods of a socket. The application may check whether its client is still there.

    def fileno(self) -> int:
        return self._sock.fileno()

    def recv(self, size: int, flags: int = 0) -> bytes:
        return self._sock.recv(size, flags)

    def gettimeout(self) -> float:
        return 0.0  # Gunicorn sets no timeout then, when it answers a request itself
