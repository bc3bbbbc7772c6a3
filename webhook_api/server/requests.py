"""From the bytes of a client to a request. What is done with a stranger's bytes is linear in their
number, and their number is bounded before it is done."""

import re
from http import HTTPStatus
from typing import Any, NamedTuple
from urllib.parse import quote_from_bytes

from gunicorn.config import Config as GunicornConfig
from gunicorn.http import Request
from gunicorn.http.errors import (
    InvalidHeader,
    LimitRequestHeaders,
    LimitRequestLine,
    NoMoreData,
    ParseException,
    UnsupportedTransferCoding,
)
from gunicorn.http.unreader import IterUnreader, SocketUnreader

from webhook_api.errors import (
    BodyGarbled,
    BodyIncomplete,
    MalformedRequest,
    RequestRefused,
    Unavailable,
)
from webhook_api.outcome import NotServed
from webhook_api.server.clients import Client, Limits, NoMemory
from webhook_api.server.executors import path_of_route

# Small: for each chunk of a body, Gunicorn copies the rest of what was received with it.
_RECEIVE_BYTES = 8 * 1024
_MAX_HEAD_BYTES = 64 * 1024
_MAX_FRAMING_BYTES = 64 * 1024  # of all lines around the chunks of a body
_HEAD_END = b"\r\n\r\n"
_ASCII = bytes(range(128))
_KNOWN = re.compile(rb"([A-Z]{3,20}) (/[A-Za-z0-9._~/-]{0,1000})")
# How each error is answered: the first kind that it belongs to counts.
_UNREADABLE: dict[type[Exception], tuple[HTTPStatus, str]] = {
    LimitRequestLine: (HTTPStatus.REQUEST_URI_TOO_LONG, "the request line is too long"),
    LimitRequestHeaders: (
        HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
        "the header fields are too long or too many",
    ),
    UnsupportedTransferCoding: (
        HTTPStatus.NOT_IMPLEMENTED,
        "this transfer coding is not supported",
    ),
    TimeoutError: (HTTPStatus.REQUEST_TIMEOUT, "the request did not arrive in time"),
    ParseException: (HTTPStatus.BAD_REQUEST, "the request is not correct HTTP"),
}


class GunicornSettings(GunicornConfig):
    """The settings of another Config as plain attributes, as they are now.

    A Config calls two functions to read a setting, and each request reads about twenty: with it,
    parsing a request takes twice as long.
    """

    def __init__(self, cfg: GunicornConfig) -> None:
        vars(self).update(vars(cfg))
        vars(self).update({name: setting.get() for name, setting in cfg.settings.items()})


class StrictRequest(Request):
    """Gunicorn's request, which also refuses what RFC 9112 forbids and Gunicorn accepts.

    It accepts every header that nothing here depends on, so that none can refuse a delivery.
    """

    expects_continue = False  # Gunicorn would send "100 Continue" before the body is waited for

    def _apply_header_policy(
        self, name: str, value: str, scheme: list[bool], seen: set[str], *more: Any, **options: Any
    ) -> tuple[str, str] | None:
        if name == "EXPECT" and value.lower() != "100-continue":
            return name, value  # a server may ignore it (RFC 9110, 10.1.1)
        seen.discard("CONTENT-TYPE")  # the last one counts
        kept: tuple[str, str] | None = super()._apply_header_policy(  # type: ignore[misc]
            name, value, scheme, seen, *more, **options
        )
        return kept

    def set_body_reader(self) -> None:
        self.expects_continue = bool(self._expected_100_continue)  # type: ignore[has-type]
        self._expected_100_continue = False
        super().set_body_reader()
        hosts = False
        for name, value in self.headers:
            if name == "HOST":
                hosts = True
            elif name == "TRANSFER-ENCODING" and value.lower() != "chunked":
                raise UnsupportedTransferCoding(value)  # 6.1
        if not hosts and self.version and self.version >= (1, 1):
            raise InvalidHeader("HOST", req=self)  # 3.2


class Received(NamedTuple):
    """A request whose body has arrived; `refusal` says why it must be refused all the same."""

    request: StrictRequest
    body: bytes = b""
    refusal: RequestRefused | None = None


class Requests:
    """The requests of one client, in their order."""

    def __init__(self, client: Client, cfg: GunicornSettings, limits: Limits) -> None:
        self._client = client
        self._cfg = cfg
        self._limits = limits
        self._unreader = SocketUnreader(self, _RECEIVE_BYTES)  # type: ignore[arg-type]
        self._expected_bytes = 0  # that the request may still have
        self._head = bytearray()  # of the request that arrives

    @property
    def has_more(self) -> bool:
        """Whether more has arrived than the last request."""
        return bool(self._unreader.buf.getbuffer().nbytes)

    def receive(self) -> Received | None:
        """Return the next request; None if the client sends no more.

        Raises:
            OSError: the client is too slow or left, or is ended to make room for others.
        """
        try:
            head, rest = self._receive_head()
            if not head:
                return None
            self._unreader.unread(head)
            request = StrictRequest(self._cfg, self._unreader, self._client.address)
        except (TimeoutError, ParseException) as error:
            if not self._head:  # it was silent
                return None
            received = self._unreadable(error)
        else:
            self._unreader.unread(rest)
            received = self._receive_body(request)
        self._client.end_request(len(received.body))
        return received

    def recv(self, size: int) -> bytes:
        """Return some bytes of the request. Gunicorn calls this.

        Raises:
            LimitRequestHeaders: there are too many.
        """
        if self._expected_bytes <= 0:
            raise LimitRequestHeaders("too many bytes around the chunks of a body")
        data = self._client.recv(size)
        self._expected_bytes -= len(data)
        return data

    def _receive_head(self) -> tuple[bytes, bytes]:
        """Return the bytes of a head, and those that came with it. No head: there is none.

        Raises:
            ParseException: it is too long.
        """
        client = self._client
        self._head = data = bytearray(self._unreader.take_buffered())
        self._expected_bytes = _MAX_HEAD_BYTES
        client.begin_request(len(data))
        searched = 0
        while (end := data.find(_HEAD_END, searched)) < 0:
            searched = max(0, len(data) - len(_HEAD_END))
            part = self.recv(_RECEIVE_BYTES)
            if not part:
                return b"", b""
            data += part
        end += len(_HEAD_END)
        line, line_end, fields = bytes(data[:end]).partition(b"\r\n")
        if not line.isascii():
            # What people type into a shell. Gunicorn accepts only ASCII (RFC 3986, 2.1).
            line = quote_from_bytes(line, _ASCII).encode()
        return line + line_end + fields, bytes(data[end:])

    def _receive_body(self, request: StrictRequest) -> Received:
        """Return `request` with what has arrived of its body, and why that is refused.

        Of a body that is too long the application gets one byte too many, so that it refuses it.
        """
        client = self._client
        limits = self._limits
        limit = limits.body_bytes.get(path_of_route(request.path or ""), limits.other_body_bytes)
        lengths = (value for name, value in request.headers if name == "CONTENT-LENGTH")
        announced = int(next(lengths, 0))
        if announced > limit:
            request.force_close()
            return Received(request)
        self._expected_bytes = limit + _MAX_FRAMING_BYTES
        client.expects_continue = request.expects_continue and not self.has_more
        assert request.body is not None
        refusal: RequestRefused
        try:
            body = request.body.read(limit + 1)
            if len(body) < announced:
                raise NoMoreData
        except NoMemory:
            refusal = Unavailable("too many bytes are held", NotServed.NO_MEMORY)
        except (TimeoutError, NoMoreData):
            refusal = BodyIncomplete("request body is incomplete")
        except ParseException:
            refusal = BodyGarbled("request body is not correct HTTP")
        else:
            client.expects_continue = False
            if len(body) > limit:
                request.force_close()
            return Received(request, body)
        request.force_close()
        return Received(request, refusal=refusal)

    def _unreadable(self, error: Exception) -> Received:
        """Return a request that has what is known of one that cannot be read."""
        fits = (why for kind, why in _UNREADABLE.items() if isinstance(error, kind))
        method, path = b"UNKNOWN", b"/"
        if known := _KNOWN.match(self._head):
            method, path = known[1], known[2]
        head = b"%b %b HTTP/1.1\r\nHost: unknown\r\nConnection: close\r\n\r\n" % (method, path)
        request = StrictRequest(self._cfg, IterUnreader([head]), self._client.address)
        return Received(request, refusal=MalformedRequest(*next(fits)))
