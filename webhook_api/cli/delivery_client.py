"""Delivers signed bodies to a URL, over several connections."""

import threading
from collections import Counter
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from urllib.parse import SplitResult, urlsplit

import click

from webhook_api.cli.provider_formats import Format

_TIMEOUT_S = 15.0


class DeliveryClient:
    """Delivers bodies from several threads, each with its own connection; counts the answers."""

    def __init__(self, url: str, as_delivery: Format) -> None:
        """Deliver to `url`; `as_delivery` signs a body.

        Raises:
            click.ClickException: `url` is not one of http or https.
        """
        target = target_of(url, "--url")
        self.url = url
        self.answers: Counter[int] = Counter()
        self._connect = HTTPSConnection if target.scheme == "https" else HTTPConnection
        self._host, self._port = target.hostname or "", target.port
        self._path = target.path or "/webhook"
        self._as_delivery = as_delivery
        self._mutex = threading.Lock()  # guards the answers and the list of connections
        self._connections: list[HTTPConnection] = []
        self._of_thread = threading.local()

    def deliver(self, body: bytes) -> None:
        """Sign `body`, deliver it, and count the status of the answer.

        Raises:
            OSError, HTTPException, ValueError: there was no answer.
        """
        status = self._post(self._connection(), body)
        with self._mutex:
            self.answers[status] += 1

    def close(self) -> None:
        """Close the connections."""
        for connection in self._connections:
            connection.close()

    def _connection(self) -> HTTPConnection:
        if not hasattr(self._of_thread, "connection"):
            self._of_thread.connection = self._connect(self._host, self._port, timeout=_TIMEOUT_S)
            with self._mutex:
                self._connections.append(self._of_thread.connection)
        connection: HTTPConnection = self._of_thread.connection
        return connection

    def _post(self, connection: HTTPConnection, body: bytes) -> int:
        headers, body = self._as_delivery(body)
        kept = connection.sock is not None
        try:
            connection.request("POST", self._path, body, headers)
            response = connection.getresponse()
        except (ConnectionError, HTTPException):
            # A server may close a kept connection at any time (RFC 9112, 9.3.1). To deliver a
            # message twice does no harm.
            connection.close()
            if not kept:
                raise
            connection.request("POST", self._path, body, headers)
            response = connection.getresponse()
        response.read()
        return response.status


def target_of(url: str, option: str) -> SplitResult:
    """Return the parts of `url`.

    Raises:
        click.ClickException: it is not one of http or https.
    """
    try:
        target = urlsplit(url)
        if target.scheme in ("http", "https") and target.hostname and target.port != 0:
            return target
    except ValueError:
        pass
    raise click.ClickException(f"{option} is {url!r}: accepted are http:// and https:// URLs")
