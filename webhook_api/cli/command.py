"""What the commands share: how they fail, what they print, and how they write.

A command fails with one line that names the cause, and without a traceback. Its stdout is its
result and nothing else.
"""

import errno
import os
import signal
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import click
from flask import current_app, has_app_context
from flask.cli import with_appcontext

from webhook_api.config import Config, ConfigError
from webhook_api.db import current_database
from webhook_api.errors import InvalidInput, RequestRefused, SchemaError, Unavailable
from webhook_api.logs import send_logs_to
from webhook_api.maintenance.verify import DamagedError
from webhook_api.store.connections import primary_result_code
from webhook_api.store.copies import Progress
from webhook_api.store.database import Database
from webhook_api.store.writer import Writer

EXIT_FAILURE = 1
EXIT_INTERRUPTED = 130  # as a shell reports a program that Ctrl-C ended
_CLOSE_TIMEOUT_S = 1.0
_MAX_REASON_CHARS = 200


def command(name: str) -> Callable[[Callable[..., Any]], click.Command]:
    """Return a decorator like `click.command`; the function runs in the application's context."""
    return lambda function: click.command(name, cls=PlainCommand)(with_appcontext(function))


class PlainCommand(click.Command):
    """A command with `plain_failures`."""

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        with plain_failures():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        if sys.stdout is None:
            # The next file that is opened would get its number.
            click.echo("Error: stdout is closed", err=True)
            sys.exit(EXIT_FAILURE)
        send_logs_to(sys.stderr)
        with _stops_like_ctrl_c(), plain_failures():
            return super().invoke(ctx)


@contextmanager
def plain_failures() -> Iterator[None]:
    """End a failing command with one line, or one for each difference of a damaged database.

    Outside of commands, change nothing.
    """
    try:
        yield
    except BrokenPipeError:
        raise  # Click ends without a message: the program that read stdout has ended.
    except click.ClickException as error:  # it is used in a wrong way, or says why it fails
        say(f"Error: {error.format_message()}", err=True)
        sys.exit(EXIT_FAILURE)
    except DamagedError as error:
        for difference in error.differences:
            say(difference)
        sys.exit(EXIT_FAILURE)
    except (ConfigError, SchemaError, RequestRefused, sqlite3.Error, OSError) as error:
        if click.get_current_context(silent=True) is None:
            raise
        say(f"Error: {describe(error)}", err=True)
        # Not a ClickException, since `flask --help` shows the traceback of any exception.
        sys.exit(EXIT_FAILURE)


@contextmanager
def _stops_like_ctrl_c() -> Iterator[None]:
    """Let SIGTERM, and SIGHUP of a closed terminal, do what Ctrl-C does: no copy is left behind."""

    def interrupt(_number: int, frame: FrameType | None) -> None:
        handler = signal.getsignal(signal.SIGINT)  # a shell ignores it in the background
        (handler if callable(handler) else signal.default_int_handler)(signal.SIGINT, frame)

    by_default = [
        number
        for number in (signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) == signal.SIG_DFL  # nohup has it ignored
    ]
    for number in by_default:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number in by_default:
            signal.signal(number, signal.SIG_DFL)


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Let Ctrl-C wait until the end of a `with` block."""
    pressed: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _frame: pressed.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if pressed:
        raise KeyboardInterrupt


def finish(summary: str, *, stopped: bool, failed: bool = False) -> None:
    """Print what was done, and end with the exit code for it."""
    click.echo(f"stopped; {summary}" if stopped else summary)
    if stopped or failed:
        sys.exit(EXIT_INTERRUPTED if stopped else EXIT_FAILURE)


def describe(error: Exception) -> str:
    """Return the cause of `error` in one line."""
    if isinstance(error, InvalidInput) and isinstance(error.detail, list):
        return clip("; ".join(_describe_input(item) for item in error.detail))
    if isinstance(error, (Unavailable, SchemaError, sqlite3.Error)):
        database = f"database {current_database().path}" if has_app_context() else "database"
        return f"{database}: {str(error).removeprefix('database: ')}{_advice(error)}"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)


def _advice(error: Exception) -> str:
    """Return what to do about a file that only another user may write."""
    if primary_result_code(error) != sqlite3.SQLITE_READONLY:
        return ""
    # SQLite makes the WAL index beside it, if no other program has it open.
    return f"; also to read it, user {os.getuid()} needs the right to write in its folder"


def _describe_input(item: dict[str, Any]) -> str:
    _, *field = item["loc"]  # without "body" or "query"
    return ": ".join([*map(str, field), item["msg"]])


def clip(text: str) -> str:
    """Return the start of `text`, on one line and without control characters."""
    shown = "".join(character if character.isprintable() else " " for character in text)
    return shown if len(shown) <= _MAX_REASON_CHARS else shown[: _MAX_REASON_CHARS - 3] + "..."


def plain(text: str) -> str:
    """Return `text` on one line, without escape sequences, C1 and bidirectional controls.

    A terminal would obey the first two; the last make a text look like another (CVE-2021-42574).
    """
    return "".join(c if c.isprintable() else "\ufffd" for c in text)


def say(text: str, *, err: bool = False) -> None:
    """Print a line that may have text of others: ids, names of files, responses of a server."""
    click.echo(plain(text), err=err)


def progress_bar(label: str, length: int | None = None) -> Any:
    """Return a bar on stderr, if that is a terminal; without `length` it shows no end."""
    # With an iterator, an empty one, Click accepts an unknown length.
    nothing: Iterator[None] = iter(())
    hidden = not sys.stderr.isatty()
    return click.progressbar(nothing, length=length, label=label, file=sys.stderr, hidden=hidden)


@contextmanager
def shown_progress(label: str) -> Iterator[Progress]:
    """Yield what moves a progress bar."""
    with progress_bar(label) as bar:

        def show(done: int, of: int) -> None:
            bar.length = of
            bar.update(done - bar.pos)

        yield show


def check_input(file: str | Path) -> None:
    """Check that stdin is open, if FILE is `-`, or raise OSError."""
    if str(file) == "-" and sys.stdin is None:
        raise OSError(errno.EBADF, "is closed", "stdin")


def size_of(file: str) -> int | None:
    """Return the size of FILE in bytes; None for stdin and pipes."""
    return (Path(file).stat().st_size or None) if file != "-" else None


def current_settings() -> Config:
    """Return the settings of the application."""
    settings: Config = current_app.config["SETTINGS"]
    return settings


@contextmanager
def writing(database: Database, **options: Any) -> Iterator[Writer]:
    """Yield a writer, which is closed at the end of the `with` block."""
    writer = Writer(database, **options)
    try:
        yield writer
    finally:
        writer.close(timeout_s=_CLOSE_TIMEOUT_S)
