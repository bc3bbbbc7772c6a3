"""The last steps of a restore, which another process finishes after a kill.

First the old file is moved away: this is the decisive step. Then its WAL and index are moved
away. Then the restored file, complete and checked, gets the name. All under the write lock.
The old file is kept under another name; or it is discarded, that is deleted at the end.
"""

from pathlib import Path

from webhook_api.store.connections import sync_folder


def restored_path(path: Path) -> Path:
    """Return the name of the restored file until it takes the place of the database at `path`."""
    return path.with_name(path.name + ".restored")


def discarded_path(path: Path) -> Path:
    """Return the name of a database that is not kept, from its place at `path` to its end."""
    return path.with_name(path.name + ".discarded")


def scratch_path(path: Path) -> Path:
    """Return the name of the copy on which a compaction of the database at `path` works."""
    return path.with_name(path.name + ".compacting")


def leftovers(path: Path) -> list[Path]:
    """Return the names of temporary files that a killed command may have left."""
    return [scratch_path(path), path.with_name(restored_path(path).name + ".partial")]


def is_half_done(path: Path) -> bool:
    """Return whether the old file was moved away, and the restored one is not in its place."""
    return not path.exists() and restored_path(path).exists()


def put_in_place(path: Path) -> None:
    """Rename the restored file to `path`, where no database is now.

    Raises:
        OSError: the folder cannot be written.
    """
    if discarded_path(path).exists():
        path.with_name(path.name + "-wal").unlink(missing_ok=True)
    set_leftovers_aside(path)
    sync_folder(path.parent)  # or after a power cut the new file may have the old WAL
    restored_path(path).rename(path)
    sync_folder(path.parent)
    discarded_path(path).unlink(missing_ok=True)


def is_missing_or_empty(path: Path) -> bool:
    """Return whether there is no database at `path`, or a file of 0 bytes."""
    return not path.exists() or (path.is_file() and path.stat().st_size == 0)


def set_leftovers_aside(path: Path) -> None:
    """If there is no database, move away the WAL and its index of the file that was there.

    SQLite would delete such a WAL, but use an index that the service still has open
    (sqlite.org/howtocorrupt.html, 2.4). The WAL is kept under another name: it may hold the only
    copy of the newest messages, in case its database is found again.
    """
    if is_missing_or_empty(path):
        path.with_name(path.name + "-shm").unlink(missing_ok=True)
        wal = path.with_name(path.name + "-wal")
        if wal.exists():
            wal.rename(wal.with_name(wal.name + ".orphan"))
