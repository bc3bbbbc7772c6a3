"""`sign` and `send`: what a provider does, for trying the service and for demonstrations."""

import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from queue import SimpleQueue
from urllib.parse import SplitResult, urlsplit

import click
from flask import current_app
from flask.cli import with_appcontext

from webhook_api.cli.failures import EXIT_FAILURE, PlainCommand
from webhook_api.cli.samples import sample_bodies
from webhook_api.cli.samples_as import SampleDelivery, samples_as
from webhook_api.providers import NAMES
from webhook_api.security import SIGNATURE_HEADER, sign

DEFAULT_URL = "http://localhost:8000/webhook"
OF_THE_SPECIFICATION = "specification"
_TIMEOUT_S = 15.0


@click.command("sign", cls=PlainCommand)
@click.argument("file", metavar="[FILE|-]", default="-")
@with_appcontext
def sign_body(file: str) -> None:
    """Print the value of the X-Signature header for the bytes of FILE or stdin.

    Every byte counts, a newline at the end as well.
    """
    with click.open_file(file, "rb") as body:
        click.echo(sign(current_app.config["WEBHOOK_SECRET"], body.read()))


@click.command("send", cls=PlainCommand)
@click.option(
    "--as",
    "provider",
    type=click.Choice([OF_THE_SPECIFICATION, *NAMES]),
    default=OF_THE_SPECIFICATION,
    show_default=True,
    help="In whose shape, with whose signature.",
)
@click.option(
    "--url", help=f"Where to deliver.  [default: {DEFAULT_URL}, and /PROVIDER for one with --as]"
)
@click.option("--count", type=click.IntRange(min=1), default=100, show_default=True)
@click.option(
    "--concurrency",
    type=click.IntRange(1, 256),
    default=4,
    show_default=True,
    help="Connections at a time.",
)
@with_appcontext
def send_samples(provider: str, url: str | None, count: int, concurrency: int) -> None:
    """Deliver signed sample messages, and tell what was answered.

    The exit code is 1 if an answer was not 200.
    """
    if provider == OF_THE_SPECIFICATION:
        url = url or DEFAULT_URL
        deliveries = _signed_samples(current_app.config["WEBHOOK_SECRET"], count)
    else:
        url = url or f"{DEFAULT_URL}/{provider}"
        deliveries = samples_as(provider, current_app.config["SETTINGS"], count)
    sender = _Provider(url, deliveries)
    replies: Counter[int] = Counter()
    started = time.perf_counter()
    for _ in range(min(concurrency, count)):
        # Daemons: Ctrl-C does not wait for their replies.
        threading.Thread(target=sender.deliver, daemon=True).start()
    failure = None
    with click.progressbar(
        length=count, label="Sending", file=sys.stderr, hidden=not sys.stderr.isatty()
    ) as bar:
        while replies.total() < count and failure is None:
            reply = sender.replies.get()
            if isinstance(reply, Exception):
                failure = reply
            else:
                replies[reply] += 1
                bar.update(1)
    seconds = time.perf_counter() - started
    for status, answers in sorted(replies.items()):
        click.echo(f"{status} {_phrase(status)}: {answers}")
    if failure is not None:
        raise click.ClickException(f"{url}: {_reason(failure)}")
    click.echo(f"{count} messages in {seconds:.1f} s")
    if set(replies) != {HTTPStatus.OK}:
        sys.exit(EXIT_FAILURE)


def _signed_samples(secret: str, count: int) -> Iterator[SampleDelivery]:
    for body in sample_bodies(count):
        headers = {"Content-Type": "application/json", SIGNATURE_HEADER: sign(secret, body)}
        yield SampleDelivery(headers, body)


class _Provider:
    """Makes deliveries over one connection for each thread that runs `deliver`.

    `replies` receives the status of each, or what ended a connection.
    """

    def __init__(self, url: str, deliveries: Iterator[SampleDelivery]) -> None:
        target = _target(url)
        self._connect = HTTPSConnection if target.scheme == "https" else HTTPConnection
        self._host, self._port = target.hostname or "", target.port
        self._path = target.path or "/webhook"
        self._deliveries = deliveries
        self._turn = threading.Lock()
        self.replies: SimpleQueue[int | Exception] = SimpleQueue()

    def deliver(self) -> None:
        """Take deliveries and make them until there are no more, or a connection fails."""
        try:
            with closing(self._connect(self._host, self._port, timeout=_TIMEOUT_S)) as connection:
                while delivery := self._next():
                    self.replies.put(self._post(connection, delivery))
        except Exception as error:  # Whatever it is, somebody waits for a reply.
            self.replies.put(error)

    def _next(self) -> SampleDelivery | None:
        with self._turn:
            return next(self._deliveries, None)

    def _post(self, connection: HTTPConnection, delivery: SampleDelivery) -> int:
        headers, body = delivery
        kept = connection.sock is not None
        try:
            connection.request("POST", self._path, body, headers)
            response = connection.getresponse()
        except (ConnectionError, HTTPException):
            # A server may close a connection that was kept, at any time (RFC 9112, 9.3.1), and
            # a message may be delivered twice.
            connection.close()
            if not kept:
                raise
            connection.request("POST", self._path, body, headers)
            response = connection.getresponse()
        response.read()
        return response.status


def _target(url: str) -> SplitResult:
    try:
        target = urlsplit(url)
        if target.scheme in ("http", "https") and target.hostname and target.port != 0:
            return target
    except ValueError:
        pass
    raise click.ClickException(f"--url is {url!r}: accepted are http:// and https:// URLs")


def _phrase(status: int) -> str:
    return HTTPStatus(status).phrase if status in list(HTTPStatus) else "?"


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
