"""Checks a database, or a copy of one. `checks.py` has what is compared."""

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from webhook_api.maintenance.checks import CHECKS, Check
from webhook_api.store.background import at_once
from webhook_api.store.connections import Connection, connect
from webhook_api.store.copying import Progress, copy_moment, naming_full_disk, no_progress
from webhook_api.store.database import Database
from webhook_api.store.database_files import VERIFIED
from webhook_api.store.free_space import check_space_for_copy
from webhook_api.store.partial_files import temporary_file
from webhook_api.store.schema import check_schema
from webhook_api.store.transactions import read_transaction

_CACHE_KIB = 32 * 1024


class Report(NamedTuple):
    """How many messages there are, and one line for each thing that is not as it should be."""

    messages: int
    differences: list[str]


class DamagedError(Exception):
    """A copy failed its check; `report` says what differs."""

    def __init__(self, report: Report) -> None:
        super().__init__(f"{len(report.differences)} differences")
        self.report = report


def verify(database: Database, scratch: Path | None = None) -> Report:
    """Check a copy of the database as it is at one moment.

    Why a copy: FTS5's own check is a write, and deliveries would wait for it, 10 s per million
    messages; and a long read lets the WAL grow. The copy is made in the folder `scratch`, by
    default beside the database.

    Raises:
        Unavailable: there is no file.
        SchemaError: its schema has another version.
        OSError: there is no space for a copy.
        sqlite3.Error: the file cannot be read.
    """
    folder = scratch or database.path.parent
    check_space_for_copy(sum(database.sizes().values()), folder)
    with temporary_file(folder / (database.path.name + VERIFIED)) as (path, _):
        with database.reader() as live:
            check_schema(live)
            copy_moment(live, path)
        return check_copy(path)


def check_copy(path: Path, progress: Progress = no_progress) -> Report:
    """Check the file at `path`, which nobody else uses. It changes: all of it is indexed.

    Raises:
        SchemaError: its schema has another version.
        OSError: its disk is full.
        sqlite3.Error: it cannot be read.
    """
    with naming_full_disk(path), ExitStack() as opened:
        connections = [opened.enter_context(closing(_open(path))) for _ in CHECKS]
        counted, _ = connections
        opened.enter_context(read_transaction(counted))  # without what is indexed from now on
        check_schema(counted)
        messages = counted.execute("SELECT count(*) FROM messages").fetchone()[0]
        found = at_once([found_by(checks) for checks in CHECKS], connections, progress)
    return Report(messages, list(chain.from_iterable(found)))


def _open(path: Path) -> Connection:
    connection = connect(path, "rw", patience_s=0)
    connection.execute("PRAGMA journal_mode = WAL")  # so that one can read while another writes
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    return connection


def found_by(checks: Sequence[Check]) -> Callable[[Connection], list[str]]:
    def found(db: Connection) -> list[str]:
        differences: list[str] = []
        for check in checks:
            try:
                differences += check(db)
            except sqlite3.OperationalError as error:
                if not str(error).startswith("Could not decode to UTF-8"):
                    raise
                where = str(error).partition(" with text")[0]  # without the text itself
                differences.append(f"messages: {where}")
        return differences

    return found
