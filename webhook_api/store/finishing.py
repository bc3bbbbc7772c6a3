"""The last steps when another file replaces the database: after a kill, another process does them.

First the old file is moved away: this is the decisive step. Then its WAL and WAL index are moved
away. Then the replacement, complete and checked, gets the name. All under the write lock. The old
file is kept under another name; or it is discarded, that is, deleted at the end.
"""

from pathlib import Path

from webhook_api.store.connections import sync_folder
from webhook_api.store.database_files import (
    DISCARDED,
    ORPHAN,
    REPLACEMENT,
    WAL,
    WAL_INDEX,
    beside,
)


def is_half_done(path: Path) -> bool:
    """Return whether the old file was moved away, and the replacement is not yet in its place."""
    return not path.exists() and beside(path, REPLACEMENT).exists()


def put_in_place(path: Path) -> None:
    """Rename the replacement to `path`, where no database is now.

    Raises:
        OSError: the folder cannot be written.
    """
    if beside(path, DISCARDED).exists():
        beside(path, WAL).unlink(missing_ok=True)
    set_old_wal_aside(path)
    sync_folder(path.parent)  # or after a power cut the new file may have the old WAL
    beside(path, REPLACEMENT).rename(path)
    sync_folder(path.parent)
    beside(path, DISCARDED).unlink(missing_ok=True)


def is_missing_or_empty(path: Path) -> bool:
    """Return whether there is no database at `path`, or a file of 0 bytes."""
    return not path.exists() or (path.is_file() and path.stat().st_size == 0)


def set_old_wal_aside(path: Path) -> None:
    """If there is no database, move away the WAL and the WAL index of the file that was there.

    SQLite would delete such a WAL, but use a WAL index that the service still has open
    (sqlite.org/howtocorrupt.html, 2.4). The WAL is kept under another name: it may hold the only
    copy of the newest messages, in case its database is found again.
    """
    if is_missing_or_empty(path):
        beside(path, WAL_INDEX).unlink(missing_ok=True)
        wal = beside(path, WAL)
        if wal.exists():
            wal.rename(beside(wal, ORPHAN))
