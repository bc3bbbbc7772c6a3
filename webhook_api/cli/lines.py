"""Reads NDJSON of messages (ndjson.org), and reports bad lines."""

import sys
from collections.abc import Iterator
from typing import IO, NamedTuple

import click
from flask import current_app

from webhook_api.cli.failures import describe
from webhook_api.config import Config
from webhook_api.errors import InvalidInput
from webhook_api.models import (
    ImportedMessage,
    InboundMessage,
    Origin,
    ProviderMessage,
    parse_json,
    parse_message,
)
from webhook_api.providers import NAMES, body_limits
from webhook_api.providers.delivery import provider_of_id, word
from webhook_api.providers.texts import as_json

_ESCAPED_BYTES = 6  # one byte of a body may be six in another program's JSON: \u007f


class Line(NamedTuple):
    """A line that is not blank; `message` is None if it is bad."""

    message: InboundMessage | None
    size: int  # bytes
    body: bytes = b""


def read_lines(file: IO[bytes]) -> Iterator[Line]:
    """Yield the lines of `file`, and name each bad one on stderr."""
    for number, body in enumerate(_lines(file, max_line_bytes()), start=1):
        message = None
        try:
            if body is None:
                raise InvalidInput("the line is too long")
            if not body.strip():
                continue
            message = _parse(parse_json(body))
        except InvalidInput as error:
            report_bad(f"line {number}", error)
        yield Line(message, len(body or b""), body or b"")


def report_bad(where: str, error: InvalidInput) -> None:
    """Name a bad line or row, and its faults, on stderr."""
    line_start = "\r\x1b[K" if sys.stderr.isatty() else ""  # over the progress bar
    click.echo(f"{line_start}{where}: {describe(error)}", err=True)


def _parse(payload: object) -> InboundMessage:
    """Return the message of a line; one of a provider is as `export` writes it.

    It may have any address, and it has its kind and payload.

    Raises:
        InvalidInput: a field is missing or breaks its rule.
    """
    message_id = payload.get("message_id") if isinstance(payload, dict) else None
    provider = provider_of_id(message_id) if isinstance(message_id, str) else ""
    if provider not in NAMES or not isinstance(payload, dict):
        return parse_message(payload, ImportedMessage)
    content = payload.get("payload")
    kept = Origin(
        provider, word(payload.get("kind")), None if content is None else as_json(content)
    )
    return parse_message({**payload, "kept": kept}, ProviderMessage)


def max_line_bytes() -> int:
    """Return how long a valid body can be as a line of another program's JSON."""
    settings: Config = current_app.config["SETTINGS"]
    return max(body_limits(settings).values()) * _ESCAPED_BYTES


def _lines(file: IO[bytes], limit: int) -> Iterator[bytes | None]:
    """Yield the lines of `file`; None, to save memory, for one of more than `limit` bytes."""
    while line := file.readline(limit + 1):
        too_long = len(line) > limit
        while len(line) > limit and not line.endswith(b"\n"):
            line = file.readline(limit + 1)
        yield None if too_long else line
