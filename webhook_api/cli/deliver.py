"""`sign` and `send`: act as a provider, to try the service or to deliver an export again."""

import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any
from urllib.parse import SplitResult, urlsplit

import click

from webhook_api.cli.bulk import read_lines
from webhook_api.cli.command import (
    EXIT_FAILURE,
    check_input,
    command,
    current_settings,
    finish,
    progress_bar,
    size_of,
)
from webhook_api.cli.provider_formats import OF_THE_SPECIFICATION, Format, format_of, sample_bodies
from webhook_api.intake.signature import sign
from webhook_api.providers import NAMES

_DEFAULT_COUNT = 100
_AHEAD = 4  # bodies for each connection
_TIMEOUT_S = 15.0


class DeliveryClient:
    """Delivers bodies from several threads, over connections that are kept; counts responses."""

    def __init__(self, url: str, as_delivery: Format) -> None:
        """Deliver to `url` what `as_delivery` signs; it has to be a URL of http or https."""
        target = target_of(url, "--url")
        self.url = url
        self.responses: Counter[int] = Counter()
        self._connect = connector(target, _TIMEOUT_S)
        self._path = target.path or "/webhook"
        self._as_delivery = as_delivery
        self._mutex = threading.Lock()  # guards `responses` and the next one
        self._idle: list[HTTPConnection] = []

    def deliver(self, body: bytes) -> None:
        """Sign `body`, deliver it, and count the status of the response, if there is one."""
        with self._mutex:
            connection = self._idle.pop() if self._idle else self._connect()
        try:
            status = self._post(connection, *self._as_delivery(body))
            with self._mutex:
                self.responses[status] += 1
        finally:
            self._idle.append(connection)

    def close(self) -> None:
        """Close the connections."""
        for connection in self._idle:
            connection.close()

    def _post(self, connection: HTTPConnection, headers: dict[str, str], body: bytes) -> int:
        kept = connection.sock is not None
        while True:
            try:
                connection.request("POST", self._path, body, headers)
                response = connection.getresponse()
                break
            except (ConnectionError, HTTPException):
                connection.close()
                if not kept:
                    raise
                # A server may close a kept connection at any time (RFC 9112, 9.3.1). To deliver
                # a message twice does no harm.
                kept = False
        response.read()
        return response.status


def target_of(url: str, option: str) -> SplitResult:
    """Return the parts of a URL of http or https, or raise ClickException."""
    try:
        target = urlsplit(url)
        if target.scheme in ("http", "https") and target.hostname and target.port != 0:
            return target
    except ValueError:
        pass
    raise click.ClickException(f"{option} is {url!r}: accepted are http:// and https:// URLs")


def connector(target: SplitResult, timeout_s: float) -> Callable[[], HTTPConnection]:
    """Return what makes a connection to the server of `target` (see `target_of`)."""
    kind = HTTPSConnection if target.scheme == "https" else HTTPConnection
    return partial(kind, target.hostname or "", target.port, timeout=timeout_s)


@command("sign")
@click.argument("file", metavar="[FILE|-]", default="-")
def sign_body(file: str) -> None:
    """Print the value of the X-Signature header for the bytes of FILE or stdin.

    Every byte counts, even a newline at the end.
    """
    check_input(file)
    with click.open_file(file, "rb") as body:
        click.echo(sign(current_settings().webhook_secret, body.read()))


@command("send")
@click.option(
    "--as",
    "provider",
    type=click.Choice([OF_THE_SPECIFICATION, *NAMES]),
    default=OF_THE_SPECIFICATION,
    show_default=True,
    help="Whose format and signature to use.",
)
@click.option(
    "--url",
    help="Where to deliver.  [default: http://localhost:PORT/webhook, and /PROVIDER with --as]",
)
@click.option("--count", type=click.IntRange(min=1), help="How many samples.  [default: 100]")
@click.option("--file", metavar="FILE|-", help="Deliver these messages, as `export` writes them.")
@click.option(
    "--concurrency",
    type=click.IntRange(1, 256),
    default=4,
    show_default=True,
    help="Connections at a time.",
)
def send_messages(
    provider: str, url: str | None, count: int | None, file: str | None, concurrency: int
) -> None:
    """Deliver signed messages, samples or those of a file, and print the responses.

    Bad lines of the file are named on stderr and left out. The exit code is 1 if there were any,
    or if a response was not 200. Can be repeated: the receiver stores each message once.
    """
    if file and count:
        raise click.UsageError("--count is for samples: it cannot be used with --file")
    settings = current_settings()
    default = f"http://localhost:{settings.port}/webhook"
    if provider != OF_THE_SPECIFICATION:
        default += f"/{provider}"
    client = DeliveryClient(url or default, format_of(provider, settings))
    if file:
        check_input(file)
        with click.open_file(file, "rb") as lines:
            bodies = ((line.body, line.size) for line in read_lines(lines))
            bad = _send(client, bodies, concurrency, size_of(file))
    else:
        click.echo("Delivering samples, which the receiver keeps like any other message.", err=True)
        samples = ((body, 1) for body in sample_bodies(count or _DEFAULT_COUNT))
        bad = _send(client, samples, concurrency, count or _DEFAULT_COUNT)
    if bad:
        click.echo(f"bad lines, left out: {bad}")
    if bad or set(client.responses) - {HTTPStatus.OK}:
        sys.exit(EXIT_FAILURE)


def _send(
    client: DeliveryClient,
    bodies: Iterable[tuple[bytes | None, int]],
    concurrency: int,
    length: int | None,
) -> int:
    """Deliver `bodies`, each with its part of the progress, which ends at `length`.

    The body of a bad line is None. Returns how many of these there were.

    Raises:
        click.ClickException: a connection failed; the responses until then were printed.
    """
    started = time.perf_counter()
    failure: BaseException | None = None
    bad = 0
    # Few are read ahead, since a file may be larger than memory.
    waiting: deque[tuple[Future[None], int]] = deque()
    pool = ThreadPoolExecutor(concurrency)
    try:
        with progress_bar("Sending", length) as bar:
            for body, size in bodies:
                if body is None:
                    bad += 1
                    continue
                waiting.append((pool.submit(client.deliver, body), size))
                if len(waiting) >= _AHEAD * concurrency:
                    _await_first(waiting, bar)
            while waiting:
                _await_first(waiting, bar)
    except (Exception, KeyboardInterrupt) as error:
        failure = error
    pool.shutdown(cancel_futures=True)
    client.close()
    seconds = time.perf_counter() - started
    for status, number in sorted(client.responses.items()):
        phrase = HTTPStatus(status).phrase if status in list(HTTPStatus) else "?"
        click.echo(f"{status} {phrase}: {number}")
    stopped = isinstance(failure, KeyboardInterrupt)
    if failure is not None and not stopped:
        raise click.ClickException(f"{client.url}: {_reason(failure)}")
    finish(f"{client.responses.total()} messages in {seconds:.1f} s", stopped=stopped)
    return bad


def _await_first(waiting: "deque[tuple[Future[None], int]]", bar: Any) -> None:
    future, size = waiting.popleft()
    future.result()
    bar.update(size)


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
