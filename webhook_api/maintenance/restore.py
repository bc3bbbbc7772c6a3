"""Restore: a new file with the rows of a backup, each of them checked, replaces the database."""

import errno
import os
import sqlite3
import sys
from collections.abc import Callable
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

from webhook_api.errors import SchemaError
from webhook_api.maintenance.replacing import TIMEOUT_S, replace
from webhook_api.maintenance.verify import (
    COUNTED_PERIODS,
    TABLES,
    DamagedError,
    check_file,
    check_totals,
    columns_of,
    run_checks,
    wrong_values,
)
from webhook_api.models import MAX_INTEGER
from webhook_api.store import copies, files
from webhook_api.store.background import run_in_parallel
from webhook_api.store.connections import connect, primary_result_code
from webhook_api.store.database import Database
from webhook_api.store.folding import folded_form
from webhook_api.store.indexing import index_messages
from webhook_api.store.lock import LockedConnection, open_unshared, transaction
from webhook_api.store.schema import check_version, foreign_objects, migrate

STDIN = Path("-")
_PART_BYTES = 1024 * 1024
_MAX_ROW_BYTES = 64 * 1024 * 1024  # as much as a delivery can have

# Triggers and indexes that cost less when all rows are there.
_MADE_LATER = """
    SELECT type || ' ' || name, sql FROM sqlite_master
    WHERE name IN ('count_message', 'count_sender') OR (type = 'index' AND sql IS NOT NULL)
"""

# The provider of a message in a file of version 7 or older, as the migration finds it.
_PROVIDER_OF_ID = (
    "CASE WHEN message_id GLOB 'meta:*' THEN 'meta' WHEN message_id GLOB 'twilio:*' THEN 'twilio'"
    " WHEN message_id GLOB 'standard:*' THEN 'standard' ELSE 'webhook' END"
)

# What those triggers would have counted.
_COUNTERS = (
    "INSERT INTO senders SELECT from_msisdn, count(*) FROM messages GROUP BY 1",
    f"INSERT INTO periods {COUNTED_PERIODS} SELECT * FROM counted",
    "UPDATE totals SET messages = (SELECT count(*) FROM messages),"
    " senders = (SELECT count(*) FROM senders)",
)

_SET = "INSERT INTO messages_search (messages_search, rank) VALUES (?, ?)"

# These have rows in a new file, too. They say which ids were used, and where the feed starts.
_REPLACED = ("sqlite_sequence", "removed_positions")


def restore(
    database: Database,
    file: Path,
    progress: copies.Progress = copies.no_progress,
    *,
    timeout_s: float = TIMEOUT_S,
) -> tuple[int, Path | None]:
    """Put the rows of `file` into a new file, and that in the place of the database.

    Returns how many messages it has, and where the old file is kept, if there was one.

    Raises:
        OSError: `file` is not a database of this service or is of a newer version, or there is no
            space.
        BlockingIOError: a long read did not end within `timeout_s` seconds.
        DamagedError: `file` failed its check.
    """
    if file != STDIN and database.path.exists() and file.samefile(database.path):
        raise OSError(errno.EINVAL, "is the database itself", str(file))
    messages = 0

    def make(new: Path) -> None:
        nonlocal messages
        with (
            copies.temporary_file(files.beside(database.path, files.SCRATCH)) as (copy, _),
            copies.naming_full_disk(new),
        ):
            _copy(file, copy)
            messages = _rebuild(file, copy, new, progress)

    kept = replace(database, make, keep=True, timeout_s=timeout_s)
    return messages, kept


def _copy(file: Path, copy: Path) -> None:
    if file == STDIN:
        _copy_bytes(file, sys.stdin.buffer, copy)
        return
    with file.open("rb") as content:
        files.check_space_for_copy(os.fstat(content.fileno()).st_size, copy.parent)
        if files.is_ours(file) and files.beside(file, files.WAL).exists():
            with closing(connect(file, "ro", timeout_s=0)) as source:
                copies.copy_moment(source, copy)
        else:
            # SQLite could not open a backup in a read-only folder.
            _copy_bytes(file, content, copy)


def _copy_bytes(file: Path, content: BinaryIO, copy: Path) -> None:
    part = content.read(files.HEADER_BYTES)
    if not files.is_our_header(part):
        raise OSError(errno.EINVAL, "is no database of this service", str(file))
    with copy.open("wb") as written:
        while part:
            # For each part: what comes from a pipe may have no end.
            files.check_space_for_copy(len(part), copy.parent)
            written.write(part)
            part = content.read(_PART_BYTES)


def _rebuild(file: Path, copy: Path, new: Path, progress: copies.Progress) -> int:
    """Make the database `new` from the rows of `copy`, a copy of `file`, and check both.

    Returns how many messages it has.
    """
    try:
        with ExitStack() as opened:
            checked, made = (opened.enter_context(closing(_open(path))) for path in (copy, new))
            check_version(checked)
            if differences := list(foreign_objects(checked)):
                raise DamagedError(differences)
            migrate(made)
            work: list[Callable[[LockedConnection], list[str] | None]] = [
                partial(run_checks, (check_totals, wrong_values, check_file)),
                partial(_copy_rows, copy),
            ]
            found = run_in_parallel(work, [checked, made], progress)
            if found[0]:
                raise DamagedError(found[0])
            messages: int = made.execute("SELECT messages FROM totals").fetchone()[0]
            return messages
    except SchemaError as error:
        raise OSError(errno.EINVAL, str(error), str(file)) from None
    except (sqlite3.Error, sqlite3.Warning) as error:
        of_the_disk = primary_result_code(error) in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)
        raise OSError(errno.EIO, str(error), str(new if of_the_disk else file)) from None


def _copy_rows(source: Path, new: LockedConnection) -> None:
    """Copy what counts from `source` into `new`, which has our schema and no rows; index it.

    The values are not checked here: if `wrong_values` finds any, `new` is of no use.
    """
    new.create_function("fold", 1, _folded, deterministic=True)
    # One transaction, which need not be undone: if it fails, `new` is deleted.
    new.execute("PRAGMA journal_mode = OFF")
    new.execute("ATTACH ? AS source", [f"file:{quote(str(source))}?mode=ro"])
    with transaction(new):
        later = new.execute(_MADE_LATER).fetchall()
        for name, _ in later:
            new.execute(f"DROP {name}")
        for table in TABLES:
            columns = ", ".join(columns_of(new, table, "source"))
            values = f"SELECT {columns} FROM source.{table}"
            if table == "totals":  # `new` has its only row
                new.execute(f"UPDATE main.totals SET ({columns}) = ({values})")
            elif table == "messages":
                more = {"folded": "fold(CAST(text AS BLOB))"}
                if "provider" not in columns:
                    more["provider"] = _PROVIDER_OF_ID
                values = f"SELECT {columns}, {', '.join(more.values())} FROM source.messages"
                new.execute(f"INSERT INTO main.messages ({columns}, {', '.join(more)}) {values}")
            elif columns:
                if table in _REPLACED:
                    new.execute(f"DELETE FROM main.{table}")
                new.execute(f"INSERT INTO main.{table} ({columns}) {values}")
        for statement in (*_COUNTERS, *(sql for _, sql in later)):
            new.execute(statement)
    new.execute("DETACH source")
    # FTS5 writes fewer and larger parts of its index, in a third of the time.
    new.executemany(_SET, [("hashsize", 64 * 1024 * 1024), ("automerge", 0)])
    index_messages(new, max_rows=MAX_INTEGER)
    new.executemany(_SET, [("hashsize", 1024 * 1024), ("automerge", 4)])  # as usual
    new.execute("PRAGMA journal_mode = WAL")


def _folded(text: bytes | None) -> str | None:
    return None if text is None else folded_form(text.decode(errors="replace"))


def _open(path: Path) -> LockedConnection:
    """Open a file that may have been made by anybody."""
    connection = open_unshared(path, "trusted_schema = OFF", "cell_size_check = ON")
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MAX_ROW_BYTES)
    return connection
