"""Restore: a new file with the rows of a backup, each of them checked, replaces the database."""

import errno
import os
import sqlite3
import sys
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import BinaryIO, NamedTuple

from webhook_api.errors import SchemaError
from webhook_api.maintenance.replacing import TIMEOUT_S, replace
from webhook_api.maintenance.rows import copy_rows, wrong_values
from webhook_api.maintenance.verify import DamagedError, Report, check_file, check_totals, found_by
from webhook_api.store.background import run_in_parallel
from webhook_api.store.connections import connect, primary_result_code
from webhook_api.store.copies import (
    Progress,
    copy_moment,
    naming_full_disk,
    no_progress,
    temporary_file,
)
from webhook_api.store.database import Database
from webhook_api.store.files import (
    HEADER_BYTES,
    SCRATCH,
    WAL,
    beside,
    check_space_for_copy,
    is_our_header,
    is_ours,
)
from webhook_api.store.lock import LockedConnection, unshared
from webhook_api.store.schema import check_version, foreign_objects, migrate

STDIN = Path("-")
_PART_BYTES = 1024 * 1024
_CACHE_KIB = 64 * 1024
_MAX_ROW_BYTES = 64 * 1024 * 1024  # as much as a delivery can have


class Restored(NamedTuple):
    """What the check of the new file found, and where the old one is kept, if there was one."""

    report: Report
    kept: Path | None


def restore(
    database: Database,
    file: Path,
    progress: Progress = no_progress,
    *,
    timeout_s: float = TIMEOUT_S,
) -> Restored:
    """Put the rows of `file` into a new file, and that in the place of the database.

    Raises:
        OSError: `file` is not a database of this service or is of a newer version, or there is no
            space.
        BlockingIOError: a long read did not end within `timeout_s` seconds.
        DamagedError: `file` failed its check.
    """
    if file != STDIN and database.path.exists() and file.samefile(database.path):
        raise OSError(errno.EINVAL, "is the database itself", str(file))
    reports = []

    def make(new: Path) -> None:
        with (
            temporary_file(beside(database.path, SCRATCH)) as (copy, _),
            naming_full_disk(new),
        ):
            _copy(file, copy)
            reports.append(_rebuild(file, copy, new, progress))

    kept = replace(database, make, keep=True, timeout_s=timeout_s)
    return Restored(reports[0], kept)


def _copy(file: Path, partial: Path) -> None:
    if file == STDIN:
        _copy_bytes(file, sys.stdin.buffer, partial)
        return
    with file.open("rb") as content:
        check_space_for_copy(os.fstat(content.fileno()).st_size, partial.parent)
        if is_ours(file) and beside(file, WAL).exists():
            with closing(connect(file, "ro", timeout_s=0)) as source:
                copy_moment(source, partial)
        else:
            # SQLite could not open a backup in a read-only folder.
            _copy_bytes(file, content, partial)


def _copy_bytes(file: Path, content: BinaryIO, partial: Path) -> None:
    part = content.read(HEADER_BYTES)
    if not is_our_header(part):
        raise OSError(errno.EINVAL, "is no database of this service", str(file))
    with partial.open("wb") as copy:
        while part:
            # For each part: what comes from a pipe may have no end.
            check_space_for_copy(len(part), partial.parent)
            copy.write(part)
            part = content.read(_PART_BYTES)


def _rebuild(file: Path, copy: Path, new: Path, progress: Progress) -> Report:
    """Make the database `new` from the rows of `copy`, a copy of `file`, and check both."""
    try:
        with ExitStack() as opened:
            checked, made = (opened.enter_context(closing(_open(path))) for path in (copy, new))
            check_version(checked)
            if differences := list(foreign_objects(checked)):
                raise DamagedError(Report(0, differences))
            migrate(made)
            work: list[Callable[[LockedConnection], list[str] | None]] = [
                found_by([check_totals, wrong_values, check_file]),
                lambda made: copy_rows(copy, made),
            ]
            found = run_in_parallel(work, [checked, made], progress)
            messages = made.execute("SELECT messages FROM totals").fetchone()[0]
            if found[0]:
                raise DamagedError(Report(messages, found[0]))
            return Report(messages, [])
    except SchemaError as error:
        raise OSError(errno.EINVAL, str(error), str(file)) from None
    except (sqlite3.Error, sqlite3.Warning) as error:
        of_the_disk = primary_result_code(error) in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)
        raise OSError(errno.EIO, str(error), str(new if of_the_disk else file)) from None


def _open(path: Path) -> LockedConnection:
    """Open a file that nobody else uses, and that may have been made by anybody."""
    connection = unshared(connect(path, "rw", timeout_s=0))
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute("PRAGMA cell_size_check = ON")
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MAX_ROW_BYTES)
    return connection
