"""`import` and `export`: messages in bulk, as NDJSON of what POST /webhook takes (ndjson.org)."""

import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import click
from flask.cli import with_appcontext

from webhook_api.cli.failures import EXIT_FAILURE, EXIT_INTERRUPTED, PlainCommand, interrupts_held
from webhook_api.cli.file_argument import check_input, size_of
from webhook_api.cli.lines import Line, read_lines
from webhook_api.cli.progress import progress_bar
from webhook_api.cli.sqlite_rows import read_rows
from webhook_api.db import current_database
from webhook_api.models import OWN, InboundMessage, MessageFilter, parse_query
from webhook_api.reading.listing import stream_messages
from webhook_api.reading.messages import find_row
from webhook_api.store.connections import Connection
from webhook_api.store.copies import in_place_when_complete
from webhook_api.store.database import Database
from webhook_api.store.files import refuse_own_file
from webhook_api.store.messages import StoreResult
from webhook_api.store.schema import check_schema
from webhook_api.store.writer import Writer

# Stored by one transaction. The service's deliveries wait for it, about 50 ms, and are stored
# while the next batch is parsed. The limit of bytes keeps this wait short if texts are long.
_BATCH_MESSAGES = 2000
_BATCH_BYTES = 512 * 1024
_CHECKPOINT_EVERY = 20_000  # pages; if ids are in no order, each row changes other pages
_CACHE_KIB = 64 * 1024  # keeps SQLite from writing the pages of one transaction several times
_TIMEOUT_S = 10.0  # for a program that locks the database without our write lock
_CLOSE_TIMEOUT_S = 1.0
_YIELD_S = 0.001


@dataclass
class _Batch:
    """Lines that are stored together: their messages, and how many lines were bad."""

    messages: list[InboundMessage] = field(default_factory=list)
    bad: int = 0
    size: int = 0  # bytes

    @property
    def is_full(self) -> bool:
        return len(self.messages) >= _BATCH_MESSAGES or self.size >= _BATCH_BYTES


class Importer:
    """Stores batches with its own connection, while the service runs."""

    def __init__(self, database: Database) -> None:
        if not database.path.exists():
            # Not created here: with a typing error in DATABASE_URL nobody would read it.
            raise click.ClickException(
                f"database {database.path}: there is none; flask --app wsgi init-db creates it"
            )
        database.prepare()
        self._writer = Writer(
            database,
            index_every=1,
            checkpoint_every=_CHECKPOINT_EVERY,
            cache_kib=_CACHE_KIB,
        )

    def store(self, messages: Sequence[InboundMessage]) -> list[StoreResult]:
        """Return what became of each message, once all are on disk and can be searched for.

        Raises:
            Unavailable: the file is gone.
            sqlite3.Error: none was stored, or they are stored but not in the search index yet.
        """
        # Without a pause we would take the lock again before those who wait for it wake up.
        time.sleep(_YIELD_S)
        results = self._writer.write(
            lambda connection: self._writer.store(connection, messages), timeout_s=_TIMEOUT_S
        )
        while self._writer.index_or_checkpoint_is_due:
            time.sleep(_YIELD_S)
            self._writer.write(self._writer.index_and_checkpoint, timeout_s=_TIMEOUT_S)
        return results

    def close(self) -> None:
        """Move the WAL into the database file, unless somebody reads it, and close."""
        self._writer.close(timeout_s=_CLOSE_TIMEOUT_S)


@click.command("import", cls=PlainCommand)
@click.argument("file", metavar="FILE|-")
@click.option("--dry-run", is_flag=True, help="Check every line, store nothing.")
@click.option(
    "--from-sqlite", is_flag=True, help="FILE is a database with the specification's table."
)
@with_appcontext
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
    with _lines_of(file, from_sqlite=from_sqlite) as lines:
        importer = None if dry_run else Importer(current_database())
        try:
            with progress_bar("Importing", None if from_sqlite else size_of(file)) as bar:
                for batch in _batches(lines):
                    counts["bad"] += batch.bad
                    counts["valid"] += len(batch.messages)
                    if importer and batch.messages:
                        _store(importer, batch.messages, counts)
                    bar.update(batch.size)
        except KeyboardInterrupt:
            stopped = True
        finally:
            if importer:
                importer.close()
    click.echo(("stopped; " if stopped else "") + _summary(counts, dry_run=dry_run))
    if stopped:
        sys.exit(EXIT_INTERRUPTED)
    if counts["bad"]:
        sys.exit(EXIT_FAILURE)


@contextmanager
def _lines_of(file: str, *, from_sqlite: bool) -> Iterator[Iterator[Line]]:
    if not from_sqlite:
        with click.open_file(file, "rb") as lines:
            yield read_lines(lines)
        return
    if file == "-":
        raise click.UsageError("--from-sqlite needs the name of a file")
    with closing(read_rows(Path(file), current_database().path)) as rows:
        yield rows


def _store(importer: Importer, messages: list[InboundMessage], counts: Counter[str]) -> None:
    """Store a batch and count the results; Ctrl-C cannot separate the two."""
    with interrupts_held():
        for result in importer.store(messages):
            counts["created" if result.created else "duplicate"] += 1
            counts["conflicting"] += result.conflict


def _summary(counts: Counter[str], *, dry_run: bool) -> str:
    if dry_run:
        return f"valid {counts['valid']}, bad {counts['bad']}; nothing was stored"
    return (
        f"created {counts['created']}, duplicate {counts['duplicate']}"
        f" (with other content {counts['conflicting']}), bad {counts['bad']}"
    )


@click.command("export", cls=PlainCommand)
@click.argument("file", metavar="[FILE|-]", default="-")
@click.option("--from", "sender", help="Only messages of this number.")
@click.option("--to", help="Only messages to this number.")
@click.option("--provider", help="Only messages that this provider delivered.")
@click.option("--message-id", help="Only the message with this id.")
@click.option("--since", help="Only messages of this instant or later: 2025-01-15T10:00:00Z.")
@click.option("--until", help="Only messages of an earlier instant.")
@click.option("--q", help="Only messages with this in their text, in any case.")
@with_appcontext
def export_messages(file: str, sender: str | None, **filters: str | None) -> None:
    """Write the messages to FILE or stdout, one JSON object a line, oldest first.

    The filters are those of GET /messages. `import` reads what this writes. A provider's message
    has its `provider`, `kind` and `payload`, too.
    """
    given = {"from": sender, **filters}
    wanted = parse_query(
        MessageFilter, {name: value for name, value in given.items() if value is not None}
    )
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
    row = find_row(db, row_id)
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
    with in_place_when_complete(path) as partial, partial.open("wb") as out:
        yield out
        out.flush()


def _batches(lines: Iterable[Line]) -> Iterator[_Batch]:
    batch = _Batch()
    for line in lines:
        batch.size += line.size
        if line.message:
            batch.messages.append(line.message)
        else:
            batch.bad += 1
        if batch.is_full:
            yield batch
            batch = _Batch()
    yield batch
