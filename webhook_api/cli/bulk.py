"""`import` and `export`: messages in bulk, as NDJSON of what POST /webhook takes (ndjson.org).

`import` also reads the SQLite file of another implementation of the specification.
"""

import errno
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import IO, NamedTuple

import click

from webhook_api.cli.command import (
    check_input,
    command,
    current_settings,
    describe,
    finish,
    interrupts_held,
    progress_bar,
    size_of,
    writing,
)
from webhook_api.db import current_database
from webhook_api.errors import InvalidInput
from webhook_api.maintenance.removal import LOCKED_TIMEOUT_S
from webhook_api.models import (
    OWN,
    ImportedMessage,
    InboundMessage,
    MessageFilter,
    Origin,
    ProviderMessage,
    parse_json,
    parse_message,
    parse_query,
)
from webhook_api.providers import NAMES, body_limits
from webhook_api.providers.delivery import provider_of_id, word
from webhook_api.providers.texts import as_json
from webhook_api.reading.listing import find_message, stream_messages
from webhook_api.store.connections import Connection, connect
from webhook_api.store.copies import in_place_when_complete
from webhook_api.store.database import Database
from webhook_api.store.files import refuse_own_file
from webhook_api.store.messages import StoreResult
from webhook_api.store.schema import SPECIFIED_COLUMNS, check_schema, has_specified_table
from webhook_api.store.writer import Writer

# Stored by one transaction. The service's deliveries wait for it, about 50 ms, and are stored
# while the next batch is parsed. The limit of bytes keeps this wait short if texts are long.
_BATCH_LINES = 2000
_BATCH_BYTES = 512 * 1024
_CHECKPOINT_EVERY = 20_000  # pages; if ids are in no order, each row changes other pages
_CACHE_KIB = 64 * 1024  # keeps SQLite from writing the pages of one transaction several times
_YIELD_S = 0.001
_ESCAPED_BYTES = 6  # one byte of a body may be six in another program's JSON: \u007f
_MIN_LIMIT_BYTES = 1024 * 1024  # of a value; SQLite's own tables have to fit as well
_FIELDS = ("message_id", "from", "to", "ts", "text")


class Line(NamedTuple):
    """A line that is not blank, or a row; `message` and `body` are None if it is bad."""

    message: InboundMessage | None
    size: int  # bytes
    body: bytes | None = None  # of a line, without its end


def bulk_writer(database: Database) -> AbstractContextManager[Writer]:
    """Return a context that yields a writer for large batches, which indexes each at once."""
    if not database.path.exists():
        # Not created here: with a typing error in DATABASE_URL nobody would read it.
        raise click.ClickException(
            f"database {database.path}: there is none; flask --app wsgi init-db creates it"
        )
    database.prepare()
    return writing(
        database, index_every=1, checkpoint_every=_CHECKPOINT_EVERY, cache_kib=_CACHE_KIB
    )


def store_batch(writer: Writer, messages: Sequence[InboundMessage]) -> list[StoreResult]:
    """Store `messages` in one transaction while the service runs; return what became of each.

    Raises:
        Unavailable: the file is gone.
        sqlite3.Error: none was stored, or they are stored but not in the search index yet.
    """
    # Without a pause we would take the lock again before those who wait for it wake up.
    time.sleep(_YIELD_S)
    results, _ = writer.write(partial(writer.store, messages=messages), timeout_s=LOCKED_TIMEOUT_S)
    while writer.index_or_checkpoint_is_due:
        time.sleep(_YIELD_S)
        writer.write(writer.index_and_checkpoint, timeout_s=LOCKED_TIMEOUT_S)
    return results


@command("import")
@click.argument("file", metavar="FILE|-")
@click.option("--dry-run", is_flag=True, help="Check every line, store nothing.")
@click.option(
    "--from-sqlite", is_flag=True, help="FILE is a database with the specification's table."
)
def import_messages(file: str, dry_run: bool, from_sqlite: bool) -> None:
    """Store the messages of FILE, one JSON object a line, each exactly once.

    A line is a valid body of POST /webhook. Bad lines are named on stderr and left out; the exit
    code is then 1. Can be used while the service runs, and repeated after a stop.

    With --from-sqlite, FILE is the SQLite file of another implementation of the specification,
    which is only read: the rows of its table `messages` are the lines.
    """
    counts: Counter[str] = Counter()
    stopped = False
    check_input(file)
    database = current_database()
    with (
        _lines_of(file, database, from_sqlite=from_sqlite) as lines,
        nullcontext() if dry_run else bulk_writer(database) as writer,
    ):
        try:
            with progress_bar("Importing", None if from_sqlite else size_of(file)) as bar:
                for batch in _batches(lines):
                    messages = [line.message for line in batch if line.message]
                    counts["bad"] += len(batch) - len(messages)
                    counts["valid"] += len(messages)
                    if writer and messages:
                        _store(writer, messages, counts)
                    bar.update(sum(line.size for line in batch))
        except KeyboardInterrupt:
            stopped = True
    summary = (
        f"created {counts['created']}, duplicate {counts['duplicate']}"
        f" (with other content {counts['conflicting']}), bad {counts['bad']}"
    )
    if dry_run:
        summary = f"valid {counts['valid']}, bad {counts['bad']}; nothing was stored"
    finish(summary, stopped=stopped, failed=counts["bad"] > 0)


@contextmanager
def _lines_of(file: str, database: Database, *, from_sqlite: bool) -> Iterator[Iterator[Line]]:
    if not from_sqlite:
        with click.open_file(file, "rb") as lines:
            yield read_lines(lines)
        return
    if file == "-":
        raise click.UsageError("--from-sqlite needs the name of a file")
    with closing(read_rows(Path(file), database.path)) as rows:
        yield rows


def _store(writer: Writer, messages: list[InboundMessage], counts: Counter[str]) -> None:
    """Store a batch and count the results; Ctrl-C cannot separate the two."""
    with interrupts_held():
        for result in store_batch(writer, messages):
            counts["created" if result.created else "duplicate"] += 1
            counts["conflicting"] += result.conflict


def _batches(lines: Iterable[Line]) -> Iterator[list[Line]]:
    batch: list[Line] = []
    size = 0
    for line in lines:
        batch.append(line)
        size += line.size
        if len(batch) >= _BATCH_LINES or size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    yield batch


def read_lines(file: IO[bytes]) -> Iterator[Line]:
    """Yield the lines of `file`, and name each bad one on stderr."""
    for number, body in enumerate(_lines(file, _max_line_bytes()), start=1):
        try:
            if body is None:
                raise InvalidInput("the line is too long")
            if body.strip():
                yield Line(_parse(parse_json(body)), len(body), body.rstrip(b"\r\n"))
        except InvalidInput as error:
            _report_bad(f"line {number}", error)
            yield Line(None, len(body or b""))


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
        with closing(connect(file, "ro", timeout_s=LOCKED_TIMEOUT_S)) as db:
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


@command("export")
@click.argument("file", metavar="[FILE|-]", default="-")
@click.option("--from", "sender", help="Only messages of this number.")
@click.option("--to", help="Only messages to this number.")
@click.option("--provider", help="Only messages that this provider delivered.")
@click.option("--message-id", help="Only the message with this id.")
@click.option("--since", help="Only messages of this instant or later: 2025-01-15T10:00:00Z.")
@click.option("--until", help="Only messages of an earlier instant.")
@click.option("--q", help="Only messages with this in their text, in any case.")
def export_messages(file: str, sender: str | None, **filters: str | None) -> None:
    """Write the messages to FILE or stdout, one JSON object a line, oldest first.

    The filters are those of GET /messages. `import` reads what this writes. A provider's message
    has its `provider`, `kind` and `payload`, too.
    """
    given = {"from": sender, **filters}
    wanted = parse_query(MessageFilter, {name: value or "" for name, value in given.items()})
    count = 0
    database = current_database()
    with database.reader() as db, _opened(file, database) as out:
        check_schema(db)
        for message in stream_messages(db, wanted):
            out.write(message.as_line(**_origin_of(db, message.cursor.id)))
            count += 1
        out.flush()
    click.echo(f"exported {count}", err=True)


def _origin_of(db: Connection, row_id: int) -> dict[str, object]:
    """Return what a line has besides the specification's fields: nothing for our own messages."""
    row = find_message(db, row_id)
    if row is None or row.provider == OWN:
        return {}
    return {"provider": row.provider, "kind": row.kind, "payload": row.content}


@contextmanager
def _opened(file: str, database: Database) -> Iterator[IO[bytes]]:
    """Open FILE to write; a file on a disk gets its name when it is complete."""
    path = Path(file).resolve()
    if file == "-" or (path.exists() and not path.is_file()):
        with click.open_file(file, "wb") as out:
            yield out
        return
    refuse_own_file(database.path, path)
    with in_place_when_complete(path) as incomplete, incomplete.open("wb") as out:
        yield out
        out.flush()
