"""Restore: a copy of a backup, checked and with our schema, replaces the database."""

import errno
import os
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import BinaryIO, NamedTuple

from webhook_api.errors import SchemaError
from webhook_api.maintenance.replacing import PATIENCE_S, replace
from webhook_api.maintenance.verify import DamagedError, Report, check_copy
from webhook_api.store.connections import connect
from webhook_api.store.copying import Progress, copy_moment, naming_full_disk, no_progress
from webhook_api.store.database import Database
from webhook_api.store.database_files import WAL, beside
from webhook_api.store.free_space import check_space_for_copy
from webhook_api.store.header import HEADER_BYTES, is_our_header, is_ours
from webhook_api.store.result_codes import primary_result_code
from webhook_api.store.schema import migrate

STDIN = Path("-")
_PART_BYTES = 1024 * 1024


class Restored(NamedTuple):
    """What the check of the new file found, and where the old one is kept, if there was one."""

    report: Report
    kept: Path | None


def restore(
    database: Database,
    file: Path,
    progress: Progress = no_progress,
    *,
    patience_s: float = PATIENCE_S,
) -> Restored:
    """Put a copy of `file` in the place of the database, checked and with our schema.

    Raises:
        OSError: `file` is not a database of this service or is of a newer version, or there is no
            space.
        BlockingIOError: a long read did not end within `patience_s` seconds.
        DamagedError: `file` failed its check.
    """
    if file != STDIN and database.path.exists() and file.samefile(database.path):
        raise OSError(errno.EINVAL, "is the database itself", str(file))
    reports = []

    def make(partial: Path) -> None:
        with naming_full_disk(partial):
            _copy(file, partial)
        reports.append(_check(file, partial, progress))

    kept = replace(database, make, keep=True, patience_s=patience_s)
    return Restored(reports[0], kept)


def _copy(file: Path, partial: Path) -> None:
    if file == STDIN:
        _copy_bytes(file, sys.stdin.buffer, partial)
        return
    with file.open("rb") as content:
        check_space_for_copy(os.fstat(content.fileno()).st_size, partial.parent)
        if is_ours(file) and beside(file, WAL).exists():
            with closing(connect(file, "ro", patience_s=0)) as source:
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


def _check(file: Path, partial: Path, progress: Progress) -> Report:
    try:
        with closing(connect(partial, "rw", patience_s=0)) as copy:
            migrate(copy)
        report = check_copy(partial, progress)
    except SchemaError as error:
        raise OSError(errno.EINVAL, str(error), str(file)) from None
    except sqlite3.Error as error:
        of_the_disk = primary_result_code(error) in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)
        raise OSError(errno.EIO, str(error), str(partial if of_the_disk else file)) from None
    if report.differences:
        raise DamagedError(report)
    return report
