"""What we change of Gunicorn: its own log lines, and when a request is given a thread."""

import errno
import io
import logging
import re
import socket
import sys
import time
from concurrent.futures import Future
from contextlib import suppress
from enum import Enum, auto
from functools import partial
from itertools import takewhile
from selectors import EVENT_READ
from typing import Any

from gunicorn.config import Config as GunicornConfig
from gunicorn.glogging import Logger
from gunicorn.http import wsgi
from gunicorn.http.errors import ParseException
from gunicorn.http.message import Request
from gunicorn.http.parser import RequestParser
from gunicorn.workers.gthread import TConn, ThreadWorker

from webhook_api.logs import JsonFormatter

RECEIVE_TIMEOUT_S = 5.0  # for all of a request to arrive
LINGER_S = 2.0  # for the client to read our last answer and close
_MAX_FRAMING_BYTES = 64 * 1024  # of a head, and of what surrounds the chunks of a body
_MAX_CHUNK_LINE_BYTES = 4096
_DRAIN_S = 0.25
_SEND_TIMEOUT_S = 5.0  # for a client to take what is sent at once
_MAX_HELD_BYTES = 64 * 1024 * 1024  # of all requests that are not whole
_QUERY = re.compile(r"\?\S*")
_CONTENT_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]+)[ \t]*\r\n", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:[^\r]*chunked", re.IGNORECASE)
_EXPECTS = re.compile(rb"\r\nexpect:[ \t]*100-continue[ \t]*\r\n", re.IGNORECASE)
_CHUNK_LINE = re.compile(rb"([0-9a-f]{1,15})[ \t]*(?:;[^\r\n]*)?\r\n", re.IGNORECASE)

# The banner of every reply, in which a stranger need not learn what serves. There is no setting.
wsgi.SERVER = "webhook"  # type: ignore[attr-defined]


class JsonLogger(Logger):
    """Gunicorn's logger, writing the same JSON to stdout as the application.

    Not `logconfig_dict`: with any of those set, Gunicorn prepares an access-log record for
    every request, log or no log.
    """

    def setup(self, cfg: GunicornConfig) -> None:
        super().setup(cfg)
        for handler in self.error_log.handlers:
            handler.setFormatter(JsonFormatter())
            handler.addFilter(_without_query)
            if isinstance(handler, logging.StreamHandler):
                handler.setStream(sys.stdout)


def _without_query(record: logging.LogRecord) -> bool:
    # Gunicorn quotes the request lines that it refuses, and a query holds phone numbers.
    record.msg, record.args = _QUERY.sub("?...", record.getMessage()), ()
    return True


class Arrival(Enum):
    """What is to be done with a request that is arriving."""

    WAIT = auto()
    WHOLE = auto()  # Answer it: all is here, or as much as will be looked at.
    BROKEN = auto()  # Refuse it: we will not wait for the rest.


class Incoming:
    """How much of one request is here, judged by its framing alone (RFC 9112, 6)."""

    def __init__(self, max_body_bytes: int) -> None:
        self.deadline = time.monotonic() + RECEIVE_TIMEOUT_S
        self.received = 0  # bytes
        self.expects_continue = False  # the client sends its body only when told to
        self._max_body_bytes = max_body_bytes
        self._at = 0  # where the head, the body, or the next chunk ends
        self._framing_bytes = 0  # of these, how many are no part of the body
        self._chunked: bool | None = None

    def judge(self, buffer: io.BytesIO) -> Arrival:
        """Return what to do, now that `buffer` holds what has arrived."""
        self.received = received = buffer.seek(0, io.SEEK_END)
        if self._chunked is None:
            head, end, _ = buffer.getvalue().partition(b"\r\n\r\n")
            if not end:
                return Arrival.WAIT if received <= _MAX_FRAMING_BYTES else Arrival.BROKEN
            self._read_framing(head + b"\r\n")
        if self._chunked:
            return self._judge_chunks(buffer, received)
        return Arrival.WHOLE if received >= self._at else Arrival.WAIT

    def _read_framing(self, head: bytes) -> None:
        self._at = self._framing_bytes = len(head) + len(b"\r\n")
        self._chunked = bool(_CHUNKED.search(head))
        announced = _CONTENT_LENGTH.search(head)
        length = int(announced[1].lstrip(b"0")[:18] or b"0") if announced else 0
        if length <= self._max_body_bytes:
            # A longer one is refused without being read, or asked for.
            self._at += length
            request_line, _, _ = head.lstrip().partition(b"\r\n")
            old = request_line.endswith(b"HTTP/1.0")
            self.expects_continue = not old and bool(_EXPECTS.search(head))

    def _judge_chunks(self, buffer: io.BytesIO, received: int) -> Arrival:
        while self._at < received:
            buffer.seek(self._at)
            line = buffer.readline(_MAX_CHUNK_LINE_BYTES)
            if not line.endswith(b"\n") and len(line) < _MAX_CHUNK_LINE_BYTES:
                break
            chunk = _CHUNK_LINE.fullmatch(line)
            if chunk is None:
                return Arrival.BROKEN
            size = int(chunk[1], 16)
            if size == 0:
                ended = b"\r\n\r\n" in line + buffer.read()
                return Arrival.WHOLE if ended else self._if_worth_waiting(received)
            self._at += len(line) + size + len(b"\r\n")
            self._framing_bytes += len(line) + len(b"\r\n")
        return self._if_worth_waiting(received)

    def _if_worth_waiting(self, received: int) -> Arrival:
        if received - self._framing_bytes > self._max_body_bytes:
            return Arrival.WHOLE
        if self._framing_bytes > _MAX_FRAMING_BYTES:
            return Arrival.BROKEN
        return Arrival.WAIT


class PatientWorker(ThreadWorker):
    """Gunicorn's threaded worker, which gives a request a thread once all of it has arrived.

    The original gives it one on the first byte and has no timeout for the rest, so that as many
    stalled clients as there are threads stop the service. Here the event loop takes what comes
    without waiting, and after RECEIVE_TIMEOUT_S expects nothing more: the thread then finds the
    connection at its end, which makes a 408 if there was a whole head. So no thread ever waits
    for a client to send, or to close, and none for long until it takes what it asked for.

    Replaces methods of Gunicorn 27.0's ThreadWorker: compare them on each upgrade.
    """

    max_body_bytes = 0  # set by gunicorn.conf.py

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Both in the order of their deadlines.
        self._incoming: dict[TConn, Incoming] = {}
        self._lingering: dict[TConn, float] = {}
        self._held_bytes = 0  # received of _incoming

    def enqueue_req(self, conn: TConn) -> None:
        """Give `conn` a thread, or let it wait in the event loop for the rest of its request."""
        known = self._incoming.get(conn)
        incoming = known or Incoming(self.max_body_bytes)
        held = incoming.received
        arrival = self._receive(conn, incoming)
        if arrival is not Arrival.WAIT:
            if known:
                self._held_bytes += incoming.received - held
                self._stop_waiting(conn)
            self._answer(conn, arrival)
            return
        self._held_bytes += incoming.received - held
        if incoming.expects_continue:
            incoming.expects_continue = False
            with suppress(OSError):
                conn.sock.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        if not known:
            self._incoming[conn] = incoming
            self.poller.register(conn.sock, EVENT_READ, lambda _sock: self.enqueue_req(conn))
        while self._held_bytes > _MAX_HELD_BYTES:
            self._end_wait(next(iter(self._incoming)))

    def _receive(self, conn: TConn, incoming: Incoming) -> Arrival:
        """Take what has arrived, and return what to do with it."""
        conn.init()
        conn.sock.setblocking(False)
        buffer = _parser(conn).unreader.buf
        buffer.seek(0, io.SEEK_END)
        try:
            data = conn.sock.recv(65_536)
        except BlockingIOError:
            return incoming.judge(buffer)
        except OSError:
            return Arrival.BROKEN
        buffer.write(data)
        return incoming.judge(buffer) if data else Arrival.BROKEN

    def _answer(self, conn: TConn, arrival: Arrival) -> None:
        if arrival is Arrival.BROKEN:
            with suppress(OSError):
                conn.sock.shutdown(socket.SHUT_RD)
        super().enqueue_req(conn)

    def _stop_waiting(self, conn: TConn) -> None:
        self._held_bytes -= self._incoming.pop(conn).received
        self.poller.unregister(conn.sock)

    def _end_wait(self, conn: TConn) -> None:
        self._stop_waiting(conn)
        self._answer(conn, Arrival.BROKEN)

    def murder_pending(self) -> None:
        """End the wait for clients whose time is over."""
        now = time.monotonic()
        overdue = takewhile(lambda item: item[1].deadline < now, self._incoming.items())
        for conn, _ in list(overdue):
            self._end_wait(conn)
        for conn, _ in list(takewhile(lambda item: item[1] < now, self._lingering.items())):
            self._let_go(conn)

    def handle_request(self, req: Request, conn: TConn) -> Any:
        """Answer `req`; the client that waits to be asked for its body was asked before."""
        req._expected_100_continue = False  # type: ignore[attr-defined]
        conn.sock.settimeout(_SEND_TIMEOUT_S)
        try:
            return super().handle_request(req, conn)
        except TimeoutError:
            # In the words that Gunicorn takes for a client that has gone.
            raise ConnectionResetError(errno.ECONNRESET, "the answer was not taken") from None

    def _keepalive_after(self, conn: TConn, keepalive: bool) -> bool:
        """Keep a connection only if its request was read to the end."""
        drained: Any = False
        with suppress(ParseException):
            drained = _parser(conn).finish_body(time.monotonic() + _DRAIN_S)  # type: ignore[func-returns-value]
        return keepalive and bool(drained)

    def finish_request(self, conn: TConn, fs: "Future[Any]") -> None:
        """Keep the connection, or let it linger, where the original makes the event loop wait.

        Closed at once, while the client still sends, it would lose the answer (RFC 9112, 9.6).
        """
        if not fs.cancelled() and not fs.exception() and fs.result():
            super().finish_request(conn, fs)
            return
        self._lingering[conn] = time.monotonic() + LINGER_S
        try:
            conn.sock.shutdown(socket.SHUT_WR)
            conn.sock.setblocking(False)
            self.poller.register(conn.sock, EVENT_READ, partial(self._discard, conn))
        except OSError:
            self._let_go(conn)

    def _discard(self, conn: TConn, sock: socket.socket) -> None:
        """Read what a client still sends that has its last answer, until it closes."""
        with suppress(BlockingIOError):
            try:
                more = sock.recv(65_536)
            except ConnectionError:
                more = b""
            if not more:
                self._let_go(conn)

    def _let_go(self, conn: TConn) -> None:
        del self._lingering[conn]
        with suppress(KeyError, ValueError):
            self.poller.unregister(conn.sock)
        self.nr_conns -= 1
        conn.close()


def _parser(conn: TConn) -> RequestParser:
    # HTTP/2 and uWSGI, which have others, are off.
    assert isinstance(conn.parser, RequestParser)
    return conn.parser
