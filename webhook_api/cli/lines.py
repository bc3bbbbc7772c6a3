"""Reads messages from files: NDJSON (ndjson.org), or the SQLite file of another implementation."""

import errno
import sqlite3
import sys
from collections.abc import Generator, Iterator
from contextlib import closing
from pathlib import Path
from typing import IO, NamedTuple

import click

from webhook_api.cli.command import current_settings, describe
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
from webhook_api.store.connections import Connection, connect
from webhook_api.store.schema import SPECIFIED_COLUMNS, has_specified_table

_ESCAPED_BYTES = 6  # one byte of a body may be six in another program's JSON: \u007f
_MIN_LIMIT_BYTES = 1024 * 1024  # of a value; SQLite's own tables have to fit as well
_LOCK_TIMEOUT_S = 10.0
_FIELDS = ("message_id", "from", "to", "ts", "text")


class Line(NamedTuple):
    """A line that is not blank, or a row; `message` is None if it is bad."""

    message: InboundMessage | None
    size: int  # bytes
    body: bytes = b""


def read_lines(file: IO[bytes]) -> Iterator[Line]:
    """Yield the lines of `file`, and name each bad one on stderr."""
    for number, body in enumerate(_lines(file, _max_line_bytes()), start=1):
        message = None
        try:
            if body is None:
                raise InvalidInput("the line is too long")
            if not body.strip():
                continue
            message = _parse(parse_json(body))
        except InvalidInput as error:
            _report_bad(f"line {number}", error)
        yield Line(message, len(body or b""), body or b"")


def _report_bad(where: str, error: InvalidInput) -> None:
    """Name a bad line or row, and its faults, on stderr."""
    line_start = "\r\x1b[K" if sys.stderr.isatty() else ""  # over the progress bar
    click.echo(f"{line_start}{where}: {describe(error)}", err=True)


def _parse(payload: object) -> InboundMessage:
    """Return the message of a line, or raise InvalidInput.

    One of a provider is as `export` writes it: with any address, its kind and its payload.
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


def _max_line_bytes() -> int:
    """Return how long a valid body can be as a line of another program's JSON."""
    return max(body_limits(current_settings()).values()) * _ESCAPED_BYTES


def _lines(file: IO[bytes], limit: int) -> Iterator[bytes | None]:
    """Yield the lines of `file`; None, to save memory, for one of more than `limit` bytes."""
    while line := file.readline(limit + 1):
        too_long = len(line) > limit
        while len(line) > limit and not line.endswith(b"\n"):
            line = file.readline(limit + 1)
        yield None if too_long else line


def read_rows(file: Path, own: Path) -> Generator[Line]:
    """Yield the rows of the table `messages` of `file`, and name each bad one on stderr.

    Nothing is written to the file, and all rows are from one read transaction. `own` is our
    database.

    Raises:
        OSError: it cannot be read, does not have that table, or is our database.
    """
    if own.exists() and file.samefile(own):
        raise OSError(errno.EINVAL, "is the database itself", str(file))
    with file.open("rb"):  # for a better reason than SQLite gives
        pass
    try:
        with closing(connect(file, "ro", timeout_s=_LOCK_TIMEOUT_S)) as db:
            db.text_factory = _decode
            db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, max(_max_line_bytes(), _MIN_LIMIT_BYTES))
            if not has_specified_table(db):
                columns = ", ".join(SPECIFIED_COLUMNS)
                about = f"has no table messages with the columns {columns}"
                raise OSError(errno.EINVAL, about, str(file))
            for (row_id,) in db.execute("SELECT rowid FROM messages ORDER BY rowid"):
                yield _read_row(db, row_id)
    except sqlite3.Error as error:
        raise OSError(errno.EIO, str(error), str(file)) from None


def _read_row(db: Connection, row_id: int) -> Line:
    message: InboundMessage | None = None
    size = 0
    try:
        sql = f"SELECT {', '.join(SPECIFIED_COLUMNS)} FROM messages WHERE rowid = ?"
        values = db.execute(sql, [row_id]).fetchone()
        size = sum(len(value) for value in values if isinstance(value, (str, bytes)))
        message = parse_message(dict(zip(_FIELDS, values, strict=True)), ImportedMessage)
    except sqlite3.DataError as error:  # before SQLite has read a value beyond its limit
        _report_bad(f"row {row_id}", InvalidInput(str(error)))
    except InvalidInput as error:
        _report_bad(f"row {row_id}", error)
    return Line(message, size)


def _decode(value: bytes) -> str | bytes:
    # A text that is not UTF-8 makes its row a bad one, and not the end of the import.
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value
