"""How a command fails: with one line that names the cause, and without a traceback."""

import os
import signal
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click
from flask import has_app_context

from webhook_api.cli.terminal import say
from webhook_api.config import ConfigError
from webhook_api.db import current_database
from webhook_api.errors import InvalidInput, RequestRefused, SchemaError, Unavailable
from webhook_api.logs import send_logs_to
from webhook_api.store.connections import primary_result_code

EXIT_FAILURE = 1
EXIT_INTERRUPTED = 130  # as a shell reports a program that Ctrl-C ended
MAX_REASON_CHARS = 200


@contextmanager
def plain_failures() -> Iterator[None]:
    """End a failing command with one line. Outside of commands, change nothing."""
    try:
        yield
    except BrokenPipeError:
        raise  # Click ends without a message: the program that read stdout has ended.
    except (ConfigError, SchemaError, RequestRefused, sqlite3.Error, OSError) as error:
        if click.get_current_context(silent=True) is None:
            raise
        say(f"Error: {describe(error)}", err=True)
        # Not a ClickException, since `flask --help` shows the traceback of any exception.
        sys.exit(EXIT_FAILURE)


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


@contextmanager
def _plain_click_errors() -> Iterator[None]:
    """End a command that is used in a wrong way, or that says why it fails, in the same way."""
    try:
        yield
    except click.ClickException as error:
        say(f"Error: {error.format_message()}", err=True)
        sys.exit(EXIT_FAILURE)


class PlainCommand(click.Command):
    """A command with `plain_failures`, whose stdout is its result and nothing else."""

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        with _plain_click_errors():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        if sys.stdout is None:
            # The next file that is opened would get its number.
            click.echo("Error: stdout is closed", err=True)
            sys.exit(EXIT_FAILURE)
        send_logs_to(sys.stderr)
        with plain_failures(), _plain_click_errors():
            return super().invoke(ctx)


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
    """Return what to do about a file of another user."""
    if primary_result_code(error) != sqlite3.SQLITE_READONLY:
        return ""
    # SQLite makes the WAL index beside it, if no other program has it open.
    return f"; also to read it, user {os.getuid()} needs the right to write in its folder"


def _describe_input(item: dict[str, Any]) -> str:
    _, *field = item["loc"]  # without "body" or "query"
    return ": ".join([*map(str, field), item["msg"]])


def clip(text: str) -> str:
    """Return the start of `text`, on one line and without control characters."""
    plain = "".join(character if character.isprintable() else " " for character in text)
    return plain if len(plain) <= MAX_REASON_CHARS else plain[: MAX_REASON_CHARS - 3] + "..."
