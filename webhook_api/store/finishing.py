"""The last steps when another file replaces the database: after a kill, another process does them.

First the old file is moved away: this is the decisive step. Then its WAL and WAL index are moved
away. Then the replacement, complete and checked, gets the name. All under the write lock. The old
file is kept under another name; or it is discarded, that is, deleted at the end.
"""

from pathlib import Path

from webhook_api.store.connections import sync_folder


def replacement_path(path: Path) -> Path:
    """Return the name of the file that is to replace the database at `path`, until it does.

    The ending is from the time when only `restore` replaced it. It stays: a start after an update
    must find the file of a command that was killed before.
    """
    return path.with_name(path.name + ".restored")


def discarded_path(path: Path) -> Path:
    """Return the name of a database that is not kept, from its place at `path` to its end."""
    return path.with_name(path.name + ".discarded")


def scratch_path(path: Path) -> Path:
    """Return the name of the copy on which a compaction of the database at `path` works."""
    return path.with_name(path.name + ".compacting")


def temporary_paths(path: Path) -> list[Path]:
    """Return the names of temporary files that a killed command may have left."""
    return [scratch_path(path), path.with_name(replacement_path(path).name + ".partial")]


def is_half_done(path: Path) -> bool:
    """Return whether the old file was moved away, and the replacement is not yet in its place."""
    return not path.exists() and replacement_path(path).exists()


def put_in_place(path: Path) -> None:
    """Rename the replacement to `path`, where no database is now.

    Raises:
        OSError: the folder cannot be written.
    """
    if discarded_path(path).exists():
        path.with_name(path.name + "-wal").unlink(missing_ok=True)
    set_old_wal_aside(path)
    sync_folder(path.parent)  # or after a power cut the new file may have the old WAL
    replacement_path(path).rename(path)
    sync_folder(path.parent)
    discarded_path(path).unlink(missing_ok=True)


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
        path.with_name(path.name + "-shm").unlink(missing_ok=True)
        wal = path.with_name(path.name + "-wal")
        if wal.exists():
            wal.rename(wal.with_name(wal.name + ".orphan"))
