"""`sign` and `send`: act as a provider, to try the service or to deliver an export again."""

import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from http import HTTPStatus
from typing import IO, Any

import click
from flask import current_app
from flask.cli import with_appcontext

from webhook_api.cli.delivery_client import DeliveryClient
from webhook_api.cli.failures import EXIT_FAILURE, EXIT_INTERRUPTED, PlainCommand
from webhook_api.cli.file_argument import check_input, size_of
from webhook_api.cli.lines import read_lines
from webhook_api.cli.progress import progress_bar
from webhook_api.cli.provider_formats import OF_THE_SPECIFICATION, format_of
from webhook_api.cli.samples import sample_bodies
from webhook_api.config import Config
from webhook_api.intake.signature import sign
from webhook_api.providers import NAMES

DEFAULT_COUNT = 100
_AHEAD = 4  # bodies for each connection


@click.command("sign", cls=PlainCommand)
@click.argument("file", metavar="[FILE|-]", default="-")
@with_appcontext
def sign_body(file: str) -> None:
    """Print the value of the X-Signature header for the bytes of FILE or stdin.

    Every byte counts, even a newline at the end.
    """
    check_input(file)
    settings: Config = current_app.config["SETTINGS"]
    with click.open_file(file, "rb") as body:
        click.echo(sign(settings.webhook_secret, body.read()))


@click.command("send", cls=PlainCommand)
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
@with_appcontext
def send_messages(
    provider: str, url: str | None, count: int | None, file: str | None, concurrency: int
) -> None:
    """Deliver signed messages, samples or those of a file, and print how they were answered.

    Bad lines of the file are named on stderr and left out. The exit code is 1 if there were any,
    or if an answer was not 200. Can be repeated: the receiver stores each message once.
    """
    if file and count:
        raise click.UsageError("--count is for samples: it cannot be used with --file")
    settings: Config = current_app.config["SETTINGS"]
    default = f"http://localhost:{settings.port}/webhook"
    if provider != OF_THE_SPECIFICATION:
        default += f"/{provider}"
    client = DeliveryClient(url or default, format_of(provider, settings))
    if file:
        check_input(file)
        with click.open_file(file, "rb") as lines:
            messages = _Messages(lines)
            _send(client, messages, concurrency, size_of(file))
        bad = messages.bad
    else:
        click.echo("Delivering samples, which the receiver keeps like any other message.", err=True)
        samples = ((body, 1) for body in sample_bodies(count or DEFAULT_COUNT))
        _send(client, samples, concurrency, count or DEFAULT_COUNT)
        bad = 0
    if bad:
        click.echo(f"bad lines, left out: {bad}")
    if bad or set(client.answers) - {HTTPStatus.OK}:
        sys.exit(EXIT_FAILURE)


class _Messages:
    """The messages in the lines of a file, each with its size, and how many lines hold none."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.bad = 0

    def __iter__(self) -> Iterator[tuple[bytes, int]]:
        for line in read_lines(self._file):
            if line.message:
                yield line.body.rstrip(b"\r\n"), line.size
            else:
                self.bad += 1


def _send(
    client: DeliveryClient,
    bodies: Iterable[tuple[bytes, int]],
    concurrency: int,
    length: int | None,
) -> None:
    """Deliver `bodies`, each with its part of the progress, which ends at `length`.

    Raises:
        click.ClickException: a connection failed; the answers until then were printed.
    """
    started = time.perf_counter()
    failure: BaseException | None = None
    # Few are read ahead, since a file may be larger than memory.
    waiting: deque[tuple[Future[None], int]] = deque()
    pool = ThreadPoolExecutor(concurrency)
    try:
        with progress_bar("Sending", length) as bar:
            for body, size in bodies:
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
    for status, answers in sorted(client.answers.items()):
        click.echo(f"{status} {_status_text(status)}: {answers}")
    if isinstance(failure, KeyboardInterrupt):
        click.echo(f"stopped; {client.answers.total()} messages in {seconds:.1f} s")
        sys.exit(EXIT_INTERRUPTED)
    if failure is not None:
        raise click.ClickException(f"{client.url}: {_reason(failure)}")
    click.echo(f"{client.answers.total()} messages in {seconds:.1f} s")


def _await_first(waiting: "deque[tuple[Future[None], int]]", bar: Any) -> None:
    future, size = waiting.popleft()
    future.result()
    bar.update(size)


def _status_text(status: int) -> str:
    return HTTPStatus(status).phrase if status in list(HTTPStatus) else "?"


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
