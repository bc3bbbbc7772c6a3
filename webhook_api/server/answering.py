"""From the bytes of a request to the bytes of its answer. Runs in a greenlet of the event loop or
in a thread. It waits for the client only if it sends a stream, which always has a thread."""

import time
from collections.abc import Callable, Mapping
from functools import lru_cache
from io import BytesIO
from typing import Any

from gunicorn.http import Request
from gunicorn.http.body import LengthReader
from gunicorn.http.errors import InvalidHeader, ParseException, UnsupportedTransferCoding
from gunicorn.http.unreader import IterUnreader
from gunicorn.http.wsgi import Response, create
from gunicorn.util import http_date

from webhook_api.server.gunicorn_settings import GunicornSettings
from webhook_api.server.outbox import NotTaken
from webhook_api.server.states import ClientConnection

_BANNER = "webhook"  # does not tell clients which server this is


class StrictRequest(Request):
    """Gunicorn's request, which also refuses what RFC 9112 forbids and Gunicorn accepts."""

    cfg: GunicornSettings

    def _peer_is_trusted_proxy(self) -> bool:
        # Gunicorn's own parses the client's address again for each request.
        return not isinstance(self.peer_addr, tuple) or self.cfg.is_trusted_proxy(self.peer_addr[0])

    def set_body_reader(self) -> None:
        super().set_body_reader()
        hosts = False
        for name, value in self.headers:
            if name == "HOST":
                hosts = True
            elif name == "TRANSFER-ENCODING" and value.lower() != "chunked":
                raise UnsupportedTransferCoding(value)  # 6.1
        if not hosts and self.version and self.version >= (1, 1):
            raise InvalidHeader("HOST", req=self)  # 3.2
        self._take_body()

    def _take_body(self) -> None:
        """Make the body a file in memory if its length was announced, and all of it is here."""
        assert self.body is not None
        if isinstance(reader := self.body.reader, LengthReader):
            here = self.unreader.read()
            if len(here) == reader.length:
                self.body = BytesIO(here)  # type: ignore[assignment]
            else:
                self.unreader.unread(here)


class OutboxResponse(Response):
    """Gunicorn's response. A stream is sent part by part; other answers stay in the outbox."""

    sock: Any  # an Outbox

    def __init__(self, req: Request, sock: Any, cfg: GunicornSettings, send_s: float) -> None:
        super().__init__(req, sock, cfg)
        self._send_s = send_s

    def default_headers(self) -> list[str]:
        """Return the first lines of the head."""
        connection = "close" if self.should_close() else "keep-alive"
        assert self.req.version is not None
        major, minor = self.req.version
        return [
            f"HTTP/{major}.{minor} {self.status}\r\nServer: {_BANNER}\r\n",
            f"Date: {_date(int(time.time()))}\r\nConnection: {connection}\r\n",
            "Transfer-Encoding: chunked\r\n" if self.chunked else "",
        ]

    def _emit_body(self, data: bytes) -> None:
        super()._emit_body(data)  # type: ignore[misc]
        if self.response_length is None:
            self.sock.flush(self._send_s)


@lru_cache(maxsize=1)  # The answers of one second share it.
def _date(_second: int) -> str:
    return http_date()


class AnswerBroken(Exception):
    """The application failed after its answer had begun."""


class Exchange:
    """One request and its answer."""

    def __init__(self, cfg: GunicornSettings, request: bytes, connection: ClientConnection) -> None:
        """Read the head.

        Raises:
            ParseException: it is not valid.
            NoMoreData: it is not complete.
        """
        self._cfg = cfg
        self._connection = connection
        # In two parts: for each line of the head the parser copies what it has not used yet.
        body_at = request.find(b"\r\n\r\n") + 4
        parts = [request] if body_at < 4 else [request[:body_at], request[body_at:]]
        self._request = StrictRequest(cfg, IterUnreader(parts), connection.client)
        # The event loop has sent "100 Continue" already.
        self._request._expected_100_continue = False  # type: ignore[attr-defined]

    def answer(
        self, app: Callable[..., Any], offers: Mapping[str, Any], *, send_s: float, last: bool
    ) -> bool:
        """Let `app` answer into the outbox; return whether the connection can be kept.

        `offers` is added to its environ. `last`: close the connection after this answer. If the
        answer cannot be sent, `close()` of what `app` returned is called before its end.

        Raises:
            NotTaken: the client of a stream has gone or takes nothing, or the stream was ended.
            AnswerBroken: the application failed after its answer had begun.
        """
        response, environ = create(  # type: ignore[call-overload]
            self._request,
            self._connection.outbox,
            self._connection.client,
            self._connection.server,
            self._cfg,
            response_class=OutboxResponse,
            response_args=(send_s,),
        )
        environ["wsgi.multithread"] = True
        environ.update(offers)
        if last or not self._cfg.keepalive:
            response.force_close()
        try:
            parts = app(environ, response.start_response)
            try:
                for part in parts:
                    response.write(part)
                response.close()
            finally:
                if hasattr(parts, "close"):
                    parts.close()
        except ConnectionError as error:
            # From the outbox, or from a stream that ended early, and has logged why.
            raise NotTaken(str(error)) from error
        except Exception as error:
            if response.headers_sent:
                raise AnswerBroken from error
            raise
        return not response.should_close() and self._is_used_up()

    def _is_used_up(self) -> bool:
        """Return whether the request ends where the event loop expected its end."""
        body = self._request.body
        assert body is not None
        try:
            while body.read(65_536):
                pass
        except (ParseException, OSError):
            return False
        return not self._request.unreader.read()
