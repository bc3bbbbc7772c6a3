"""Backups: a checked copy of the database as it is at one moment."""

import errno
import re
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from webhook_api.maintenance.verify import check_copy
from webhook_api.store import files
from webhook_api.store.copies import Progress, copy_moment, in_place_when_complete, no_progress
from webhook_api.store.database import Database
from webhook_api.store.schema import check_schema


def back_up(database: Database, destination: Path, progress: Progress = no_progress) -> int:
    """Write the database as it is now to `destination`, in place of an older backup.

    The file gets its name when it is complete, checked and on disk. The service goes on.
    Returns how many messages it has.

    Raises:
        OSError: no backup can be written to `destination`, or its disk is full.
        DamagedError: the copy has differences; nothing was written.
    """
    _refuse_what_is_no_backup(database, destination)
    with in_place_when_complete(destination) as partial:
        files.check_space_for_copy(sum(database.sizes().values()), partial.parent)
        with database.reader() as live:
            check_schema(live)
            moment = time.time()
            copy_moment(live, partial, lambda done, of: progress(done, 2 * of))
        messages = check_copy(partial, lambda done, of: progress(of + done, 2 * of))
    remember_backup(database, moment)
    return messages


def dated_name(database: Database, folder: Path) -> Path:
    """Return the name in `folder` of a backup that is made now: app-20250115T100000Z.db."""
    return folder / f"{database.path.stem}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.db"


def dated_backups(database: Database, folder: Path) -> list[Path]:
    """Return the backups in `folder` that have such a name, the newest last."""
    ours = re.compile(re.escape(database.path.stem) + r"-\d{8}T\d{6}Z\.db", re.ASCII)
    return sorted(file for file in folder.iterdir() if ours.fullmatch(file.name))


def moment_of_name(backup: Path) -> datetime:
    """Return when the backup with a dated name was begun."""
    return datetime.strptime(backup.stem[-16:], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)


def remove_older(database: Database, newest: Path, *, keep: int) -> list[Path]:
    """Remove all but the `keep` newest dated backups beside `newest`; return what was removed.

    `newest` stays: a backup with a later date was made while the clock was wrong, and counts as
    older than all others. Files with any other name stay.
    """
    dated = dated_backups(database, newest.parent)
    older = sorted(dated, key=lambda file: file.name <= newest.name)[:-keep]
    for file in older:
        file.unlink()
    return older


def remember_backup(database: Database, moment: float) -> None:
    """Write the `moment` of the last backup, in seconds since 1970, to a file beside the database.

    Not into the database: after a restore it would know only of older backups.
    """
    with in_place_when_complete(_record(database)) as partial:
        partial.write_text(f"{moment:.3f}\n", encoding="ascii")


def last_backup(database: Database) -> float | None:
    """Return the moment of the last backup, in seconds since 1970; None if there never was one."""
    with suppress(OSError, ValueError):
        return float(_record(database).read_text(encoding="ascii"))
    return None


def _record(database: Database) -> Path:
    return files.beside(database.path, files.LAST_BACKUP)


def _refuse_what_is_no_backup(database: Database, destination: Path) -> None:
    if destination.is_dir():
        raise OSError(
            errno.EISDIR, "is a folder: --keep keeps dated backups in it", str(destination)
        )
    files.refuse_own_file(database.path, destination)
    if destination.exists() and not files.is_ours(destination):
        raise OSError(errno.EEXIST, "exists, and is no backup of this service", str(destination))
    if files.beside(destination, files.WAL).exists():
        raise OSError(errno.EEXIST, "is a database in use, it has a -wal", str(destination))
