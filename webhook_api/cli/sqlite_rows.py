"""Reads the messages of another implementation of the specification from its SQLite file."""

import errno
import sqlite3
from collections.abc import Generator
from contextlib import closing
from pathlib import Path

from webhook_api.cli.lines import Line, max_line_bytes, report_bad
from webhook_api.errors import InvalidInput
from webhook_api.models import ImportedMessage, InboundMessage, parse_message
from webhook_api.store.connections import Connection, connect
from webhook_api.store.schema import SPECIFIED_COLUMNS, has_specified_table

_MIN_LIMIT_BYTES = 1024 * 1024  # of a value; SQLite's own tables have to fit as well
_LOCK_TIMEOUT_S = 10.0
_FIELDS = ("message_id", "from", "to", "ts", "text")


def read_rows(file: Path, own: Path) -> Generator[Line]:
    """Yield the rows of the table `messages` of `file`, and name each bad one on stderr.

    Nothing is written to the file, and all rows are from one snapshot. `own` is our database.

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
            db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, max(max_line_bytes(), _MIN_LIMIT_BYTES))
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
        report_bad(f"row {row_id}", InvalidInput(str(error)))
    except InvalidInput as error:
        report_bad(f"row {row_id}", error)
    return Line(message, size)


def _decode(value: bytes) -> str | bytes:
    # A text that is not UTF-8 makes its row a bad one, and not the end of the import.
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value
