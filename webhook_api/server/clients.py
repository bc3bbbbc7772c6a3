"""The clients of a worker: their sockets, their deadlines, and the bytes that are held for them.

All of this runs in the thread of the event loop. Each client has one greenlet, which waits nowhere
but in `Client._wait`; there a deadline or an eviction raises an exception.
"""

import math
import select
import socket
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from gevent.hub import Hub
from greenlet import greenlet

from webhook_api.execution import Executor
from webhook_api.server.executors import PoolLimits

_READ, _WRITE = 1, 2  # of gevent's io watchers
_CHECK_S = 0.25  # between two checks of all deadlines
_RECEIVE_BYTES = 64 * 1024
_PIECE_BYTES = 256 * 1024  # of what is sent: each is freed by itself, see `__main__.py`
_PARTS = 64  # sent by one call, well below IOV_MAX (sysconf(3))
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much time, memory and threads a worker spends on clients."""

    body_bytes: Mapping[str, int] = field(default_factory=dict)  # longest body, by its path
    other_body_bytes: int = 16 * 1024  # longest body on other paths, where nobody reads it
    idle_s: float = 5.0  # until the first byte of a request
    receive_s: float = 5.0  # from the first byte of a request until its last
    send_s: float = 5.0  # in which the client takes nothing of the response
    linger_s: float = 2.0  # for the client to read our last response and close
    stop_s: float = 2.0  # replaces idle_s when the worker stops
    held_bytes: int = 48 * 1024 * 1024  # of all requests and responses, in one process
    pools: Mapping[Executor, PoolLimits] = field(default_factory=dict)


class NoMemory(ConnectionError):
    """The client has to end, so that fewer bytes are held."""


class Client:
    """One connection. Gunicorn's parser and response use it like a socket."""

    def __init__(self, clients: "Clients", sock: socket.socket, address: Any, server: Any) -> None:
        self.address = address
        self.server = server  # our address that it connected to
        self.deadline = math.inf  # of time.monotonic(); infinite while we work
        self.held = 0  # bytes received for the current request, and bytes not sent yet
        self.expects_continue = False  # it waits for "100 Continue" before it sends the body
        self.is_idle = True  # between two requests
        self.greenlet: greenlet | None = None
        self._clients = clients
        self._sock = sock
        self._reads = clients.hub.loop.io(sock.fileno(), _READ)
        self._writes: Any = None
        self._unsent: deque[bytes] = deque()

    @property
    def is_sending(self) -> bool:
        """Whether it has not taken all of a response."""
        return bool(self._unsent)

    def recv(self, size: int) -> bytes:
        """Return up to `size` bytes, at the end b"".

        It waits before it reads: otherwise a client that always has something to read would keep
        the loop to itself.

        Raises:
            TimeoutError: its deadline has passed.
            OSError: it has to end for others (`NoMemory`), or the connection broke.
        """
        if self.expects_continue:
            self.expects_continue = False
            self._sock.send(_CONTINUE)
        data = self._receive(min(size, _RECEIVE_BYTES))
        self._hold(len(data))
        if self.is_idle:
            self.is_idle = False
            self.deadline = time.monotonic() + self._clients.limits.receive_s
        return data

    def sendall(self, data: bytes) -> None:
        """Keep `data` until `flush` sends it."""
        pieces = range(0, len(data), _PIECE_BYTES)
        self._unsent.extend(
            [data] if len(pieces) == 1 else (data[at : at + _PIECE_BYTES] for at in pieces)
        )
        self._hold(len(data))

    def flush(self) -> None:
        """Send everything, as fast as the client takes it.

        Raises:
            TimeoutError: its deadline has passed.
            OSError: it has to end for others (`NoMemory`), or the connection broke.
        """
        try:
            while self._unsent:
                if self._send_some() or self.deadline == math.inf:
                    self.deadline = time.monotonic() + self._clients.limits.send_s
                if self._unsent:
                    if self._writes is None:
                        self._writes = self._clients.hub.loop.io(self._sock.fileno(), _WRITE)
                    self._wait(self._writes)
        finally:
            self.deadline = math.inf

    def linger(self) -> None:
        """Close our side, and wait until the client has closed its own.

        If we closed both while it still sends, it could lose our last response (RFC 9112, 9.6).

        Raises:
            TimeoutError: its deadline has passed.
            OSError: it has to end for others (`NoMemory`), or the connection broke.
        """
        self._sock.shutdown(socket.SHUT_WR)
        self.deadline = time.monotonic() + self._clients.limits.linger_s
        while self._receive(_RECEIVE_BYTES):
            pass

    def begin_request(self, size: int) -> None:
        """Wait for a request, of which `size` bytes are here; nothing else is held."""
        self._hold(size - self.held)
        self.is_idle = not size
        limits = self._clients.limits
        wait_s = self._clients.idle_s if self.is_idle else limits.receive_s
        self.deadline = time.monotonic() + wait_s

    def end_request(self, size: int) -> None:
        """Wait no more: all that is needed of the request is here, and `size` bytes are kept."""
        self._hold(size - self.held)
        self.deadline = math.inf

    def has_left(self) -> bool:
        """Return whether the client has closed its side. Any thread may ask."""
        poll = select.poll()
        try:
            poll.register(self._sock, select.POLLIN)
            return bool(poll.poll(0)) and not self._sock.recv(1, socket.MSG_PEEK)
        except (OSError, ValueError):  # it broke, or we have closed it
            return True

    def end(self, reason: OSError) -> None:
        """Raise `reason` where the greenlet waits. Only callbacks of the hub call this."""
        assert self.greenlet is not None
        self.deadline = math.inf
        self.greenlet.throw(reason)

    def close(self) -> None:
        """Close the socket, and forget what is not sent."""
        for watcher in (self._reads, self._writes):
            if watcher is not None:
                watcher.close()
        self._sock.close()
        self._unsent.clear()
        self._hold(-self.held)

    def _receive(self, size: int) -> bytes:
        while True:
            self._wait(self._reads)
            try:
                return self._sock.recv(size)
            except BlockingIOError:
                pass

    def _wait(self, watcher: Any) -> None:
        self._clients.hub.wait(watcher)

    def _hold(self, size: int) -> None:
        self.held += size
        self._clients.hold(size)

    def _send_some(self) -> int:
        """Send what the client takes now; return how many bytes these are."""
        try:
            sent = rest = self._sock.sendmsg(islice(self._unsent, _PARTS))
        except BlockingIOError:
            return 0
        self._hold(-sent)
        while rest:
            first = self._unsent.popleft()
            if len(first) > rest:
                self._unsent.appendleft(first[rest:])  # a copy, so that what was sent is freed
            rest -= min(rest, len(first))
        return sent


class Clients:
    """All clients of a worker."""

    def __init__(self, limits: Limits, hub: Hub) -> None:
        self.limits = limits
        self.hub = hub
        self.dropped = 0  # that did not take their response
        self._all: set[Client] = set()
        self._held = 0
        self._is_freeing = False
        self.idle_s = limits.idle_s
        self._timer = hub.loop.timer(_CHECK_S, _CHECK_S)
        self._timer.start(self._end_late)

    def __len__(self) -> int:
        return len(self._all)

    def begin(
        self, sock: socket.socket, address: Any, server: Any, serve: Callable[[Client], None]
    ) -> None:
        """Begin a greenlet that serves a new client. Only callbacks of the hub call this."""
        client = Client(self, sock, address, server)
        self._all.add(client)
        client.greenlet = greenlet(serve, self.hub)
        client.greenlet.switch(client)

    def remove(self, client: Client) -> None:
        """Close `client`."""
        self._all.discard(client)
        client.close()

    def shorten_idle(self, idle_s: float) -> None:
        """Let clients that are between two requests wait for `idle_s` seconds at most."""
        self.idle_s = min(self.idle_s, idle_s)
        latest = time.monotonic() + self.idle_s
        for client in self._all:
            if client.is_idle:
                client.deadline = min(client.deadline, latest)

    def evict_one(self) -> bool:
        """End the client that has the least time left; return whether there was one.

        Only callbacks of the hub call this.
        """
        waiting = [client for client in self._all if client.deadline < math.inf]
        if not waiting:
            return False
        min(waiting, key=lambda client: client.deadline).end(
            ConnectionAbortedError("too many clients")
        )
        return True

    def hold(self, size: int) -> None:
        """Count bytes that a client makes us hold; end others if all hold too many."""
        self._held += size
        if self._held > self.limits.held_bytes and not self._is_freeing:
            self._is_freeing = True
            self.hub.loop.run_callback(self._free_memory)

    def _end_late(self) -> None:
        now = time.monotonic()
        for client in [client for client in self._all if client.deadline <= now]:
            if client.deadline <= now:  # unless it went on meanwhile
                self.dropped += client.is_sending
                client.end(TimeoutError("timed out"))

    def _free_memory(self) -> None:
        """First end those that do not take their response: the others may deliver a message."""
        self._is_freeing = False
        while self._held > self.limits.held_bytes:
            waiting = [one for one in self._all if one.deadline < math.inf and one.held]
            if not waiting:
                return
            last = min(waiting, key=lambda client: (not client.is_sending, client.deadline))
            self.dropped += last.is_sending
            last.end(NoMemory("too many bytes are held"))
