"""`import` and `export`: messages in bulk, as NDJSON of what POST /webhook takes (ndjson.org)."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import click

from webhook_api.cli.command import (
    LOCKED_TIMEOUT_S,
    check_input,
    command,
    finish,
    interrupts_held,
    progress_bar,
    size_of,
    writing,
)
from webhook_api.cli.lines import Line, read_lines, read_rows
from webhook_api.db import current_database
from webhook_api.models import OWN, InboundMessage, MessageFilter, parse_query
from webhook_api.reading.listing import stream_messages
from webhook_api.reading.messages import find_message
from webhook_api.store.connections import Connection
from webhook_api.store.copies import in_place_when_complete
from webhook_api.store.database import Database
from webhook_api.store.files import refuse_own_file
from webhook_api.store.messages import StoreResult
from webhook_api.store.schema import check_schema

# Stored by one transaction. The service's deliveries wait for it, about 50 ms, and are stored
# while the next batch is parsed. The limit of bytes keeps this wait short if texts are long.
_BATCH_MESSAGES = 2000
_BATCH_BYTES = 512 * 1024
_CHECKPOINT_EVERY = 20_000  # pages; if ids are in no order, each row changes other pages
_CACHE_KIB = 64 * 1024  # keeps SQLite from writing the pages of one transaction several times
_YIELD_S = 0.001

Store = Callable[[Sequence[InboundMessage]], list[StoreResult]]


@dataclass
class _Batch:
    """Lines that are stored together: their messages, and how many lines were bad."""

    messages: list[InboundMessage] = field(default_factory=list)
    bad: int = 0
    size: int = 0  # bytes


@contextmanager
def storing(database: Database) -> Iterator[Store]:
    """Yield what stores a batch while the service runs, with a connection of its own.

    It returns what became of each message, once all are on disk and can be searched for.

    Raises:
        Unavailable: the file is gone.
        sqlite3.Error: none was stored, or they are stored but not in the search index yet.
    """
    if not database.path.exists():
        # Not created here: with a typing error in DATABASE_URL nobody would read it.
        raise click.ClickException(
            f"database {database.path}: there is none; flask --app wsgi init-db creates it"
        )
    database.prepare()
    with writing(
        database, index_every=1, checkpoint_every=_CHECKPOINT_EVERY, cache_kib=_CACHE_KIB
    ) as writer:

        def store(messages: Sequence[InboundMessage]) -> list[StoreResult]:
            # Without a pause we would take the lock again before those who wait for it wake up.
            time.sleep(_YIELD_S)
            results, _ = writer.write(
                lambda connection: writer.store(connection, messages), timeout_s=LOCKED_TIMEOUT_S
            )
            while writer.index_or_checkpoint_is_due:
                time.sleep(_YIELD_S)
                writer.write(writer.index_and_checkpoint, timeout_s=LOCKED_TIMEOUT_S)
            return results

        yield store


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
        nullcontext() if dry_run else storing(database) as store,
    ):
        try:
            with progress_bar("Importing", None if from_sqlite else size_of(file)) as bar:
                for batch in _batches(lines):
                    counts["bad"] += batch.bad
                    counts["valid"] += len(batch.messages)
                    if store and batch.messages:
                        _store(store, batch.messages, counts)
                    bar.update(batch.size)
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


def _store(store: Store, messages: list[InboundMessage], counts: Counter[str]) -> None:
    """Store a batch and count the results; Ctrl-C cannot separate the two."""
    with interrupts_held():
        for result in store(messages):
            counts["created" if result.created else "duplicate"] += 1
            counts["conflicting"] += result.conflict


def _batches(lines: Iterable[Line]) -> Iterator[_Batch]:
    batch = _Batch()
    for line in lines:
        batch.size += line.size
        if line.message:
            batch.messages.append(line.message)
        else:
            batch.bad += 1
        if len(batch.messages) >= _BATCH_MESSAGES or batch.size >= _BATCH_BYTES:
            yield batch
            batch = _Batch()
    yield batch


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
    with in_place_when_complete(path) as partial, partial.open("wb") as out:
        yield out
        out.flush()
