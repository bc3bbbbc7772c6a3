"""What we change of Gunicorn: its own log lines, and when a request is given a thread."""

import io
import logging
import re
import socket
import sys
import time
from contextlib import suppress
from functools import partial
from selectors import EVENT_READ
from typing import Any

from gunicorn import util
from gunicorn.config import Config as GunicornConfig
from gunicorn.glogging import Logger
from gunicorn.http.parser import RequestParser
from gunicorn.workers.gthread import TConn, ThreadWorker

from webhook_api.logs import JsonFormatter

RECEIVE_TIMEOUT_S = 5.0  # for all of a request to arrive
_MAX_HEAD_BYTES = 64 * 1024
_MAX_CHUNK_LINE_BYTES = 4096
_LINGER_S = 0.25
_CONTENT_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,18})[ \t]*\r\n", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:[^\r]*chunked", re.IGNORECASE)


class JsonLogger(Logger):
    """Gunicorn's logger, writing the same JSON to stdout as the application.

    Not `logconfig_dict`: with any of those set, Gunicorn prepares an access-log record for
    every request, log or no log.
    """

    def setup(self, cfg: GunicornConfig) -> None:
        super().setup(cfg)
        for handler in self.error_log.handlers:
            handler.setFormatter(JsonFormatter())
            if isinstance(handler, logging.StreamHandler):
                handler.setStream(sys.stdout)


class Incoming:
    """How much of one request is here, judged by its framing alone (RFC 9112, 6)."""

    def __init__(self, max_body_bytes: int) -> None:
        self.deadline = time.monotonic() + RECEIVE_TIMEOUT_S
        self._max_body_bytes = max_body_bytes
        self._at = 0  # where the head, the body, or the next chunk ends
        self._chunked: bool | None = None

    def is_whole(self, buffer: io.BytesIO) -> bool:
        """Return whether `buffer` holds all of the request, or as much as will be looked at."""
        received = buffer.seek(0, io.SEEK_END)
        if self._chunked is None:
            head, end, _ = buffer.getvalue().partition(b"\r\n\r\n")
            if not end:
                return received > _MAX_HEAD_BYTES
            self._read_framing(head + b"\r\n")
        if received - self._max_body_bytes > _MAX_HEAD_BYTES:
            return True
        return self._last_chunk_is_here(buffer) if self._chunked else received >= self._at

    def _read_framing(self, head: bytes) -> None:
        self._at = len(head) + len(b"\r\n")
        self._chunked = bool(_CHUNKED.search(head))
        announced = _CONTENT_LENGTH.search(head)
        length = int(announced[1]) if announced else 0
        if length <= self._max_body_bytes:
            # A longer one is refused without being read.
            self._at += length

    def _last_chunk_is_here(self, buffer: io.BytesIO) -> bool:
        while True:
            buffer.seek(self._at)
            line = buffer.readline(_MAX_CHUNK_LINE_BYTES)
            if not line.endswith(b"\n"):
                return len(line) == _MAX_CHUNK_LINE_BYTES
            try:
                size = int(line.partition(b";")[0], 16)
            except ValueError:
                return True  # Gunicorn's parser knows what to say to that.
            if size == 0:
                return b"\r\n\r\n" in line + buffer.read()
            self._at += len(line) + size + len(b"\r\n")


class PatientWorker(ThreadWorker):
    """Gunicorn's threaded worker, which gives a request a thread once all of it has arrived.

    The original gives it one on the first byte and has no timeout for the rest, so that as many
    stalled clients as there are threads stop the service. Here the event loop takes what comes
    without waiting, and after RECEIVE_TIMEOUT_S expects nothing more: the thread then finds the
    connection at its end, which makes a 408 if there was a whole head.

    Replaces methods of Gunicorn 27.0's ThreadWorker: compare them on each upgrade.
    """

    max_body_bytes = 0  # set by gunicorn.conf.py

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._incoming: dict[TConn, Incoming] = {}

    def enqueue_req(self, conn: TConn) -> None:
        """Give `conn` a thread, or let it wait in the event loop for the rest of its request."""
        incoming = self._incoming.get(conn) or Incoming(self.max_body_bytes)
        if self._receive(conn, incoming):
            self._incoming.pop(conn, None)
            super().enqueue_req(conn)
        else:
            self._incoming[conn] = incoming
            self.pending_conns.append(conn)
            self.poller.register(
                conn.sock, EVENT_READ, partial(self.on_pending_socket_readable, conn)
            )

    def _receive(self, conn: TConn, incoming: Incoming) -> bool:
        """Take what has arrived; True if that is the whole request, or there will be no more."""
        conn.init()
        conn.sock.setblocking(False)
        buffer = _parser(conn).unreader.buf
        buffer.seek(0, io.SEEK_END)
        try:
            data = conn.sock.recv(65_536)
            buffer.write(data)
            return not data or incoming.is_whole(buffer)
        except BlockingIOError:
            return incoming.is_whole(buffer)
        except OSError:
            return True

    def murder_pending(self) -> None:
        """End the wait for requests whose time is over."""
        now = time.monotonic()
        overdue = [conn for conn, incoming in self._incoming.items() if incoming.deadline < now]
        for conn in overdue:
            del self._incoming[conn]
            self.pending_conns.remove(conn)
            self.poller.unregister(conn.sock)
            with suppress(OSError):
                conn.sock.shutdown(socket.SHUT_RD)
            super().enqueue_req(conn)

    def handle(self, conn: TConn) -> Any:
        """Answer the request; close in this thread, where the original makes the loop linger."""
        keep = super().handle(conn)
        if not keep:
            util.close_graceful(conn.sock, timeout=_LINGER_S)
        return keep

    def _keepalive_after(self, conn: TConn, keepalive: bool) -> bool:
        """Keep a connection only if its request was read to the end."""
        drained: Any = _parser(conn).finish_body(time.monotonic() + _LINGER_S)  # type: ignore[func-returns-value]
        return keepalive and bool(drained)


def _parser(conn: TConn) -> RequestParser:
    # HTTP/2 and uWSGI, which have others, are off.
    assert isinstance(conn.parser, RequestParser)
    return conn.parser
