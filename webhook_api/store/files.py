"""The files of a database: their names, headers, and the space on their disk.

Each has the name of the database and an ending, in the same folder. The header says whether a file
is a database, and one of this service (sqlite.org/fileformat.html).

When another file replaces the database, the old one is first moved away: this is the decisive
step. Then its WAL and WAL index are moved away. Then the replacement, complete and checked, gets
the name. After a kill, another process does the rest. The old file is kept under another name; or
it is discarded, that is, deleted at the end.
"""

import errno
import os
import shutil
import stat
from contextlib import suppress
from pathlib import Path

from webhook_api.store.lock import WriteLock

WAL = "-wal"
WAL_INDEX = "-shm"
SQLITE_ENDINGS = (WAL, WAL_INDEX, "-journal")  # of the files that SQLite makes
WRITE_LOCK = ".lock"
REMOVAL_LOCK = ".removal.lock"
NAMES_LOCK = ".names.lock"  # of the names of these files: shared to open them, else to replace them
LAST_BACKUP = ".last-backup"  # holds the time of the last backup
REPLICATED = ".replicated"  # holds the position up to which the replica has all
LAST_DRILL = ".last-drill"  # was changed when the last drill went well
STANDBY = ".standby"  # the database is a copy; was changed when that was the newest state
SESSIONS = ".sessions"  # a folder, of the inbox
# The file that is to replace the database. The name is from the time when only `restore` did that;
# it stays, so that a start after an update finds the file of a command that was killed before.
REPLACEMENT = ".restored"
DISCARDED = ".discarded"  # the old database, if it is not kept, until it is deleted
SCRATCH = ".compacting"  # the copy on which a compaction works
VERIFIED = ".verifying"  # the copy that `verify` checks
PARTIAL = ".partial"  # ends the name of any file that is not complete yet, or only for a while
ORPHAN = ".orphan"  # ends the name of a WAL whose database was lost

_OWN = (
    *SQLITE_ENDINGS, WRITE_LOCK, REMOVAL_LOCK, NAMES_LOCK, LAST_BACKUP, REPLICATED, SESSIONS,
    REPLACEMENT, DISCARDED, SCRATCH, VERIFIED, LAST_DRILL, STANDBY,
)  # fmt: skip
_OF_OTHERS = (ORPHAN, PARTIAL, "-litestream")

HEADER_BYTES = 100
HEADER_STRING = b"SQLite format 3\0"  # at its start
APPLICATION_ID = 0x4D536731  # marks a file as ours
_APPLICATION_ID_AT = 68

_SIZES = 1.1  # to ask for: checking the copy needs some space as well
_MORE_BYTES = 128 * 1024  # for the WAL and the WAL index, which even the smallest copy has


def beside(path: Path, ending: str) -> Path:
    """Return the path of the file that belongs to the one at `path` and has this ending."""
    return path.with_name(path.name + ending)


def time_of(file: Path) -> float | None:
    """Return when `file` was last changed, in seconds since 1970; None if there is none."""
    with suppress(OSError):
        return file.stat().st_mtime
    return None


def make_private(path: Path) -> None:
    """Let only the owner use the files of the database at `path`, and those that it replaced.

    Files of earlier versions could be read by every user of the machine. SQLite gives a WAL and
    a WAL index the mode of their database.
    """
    own = (beside(path, ending) for ending in ("", *_OWN))
    for file in [*own, *path.parent.glob(f"{path.stem}-replaced-*")]:
        # A file that is missing, or another user's, as on some mounted folders.
        with suppress(FileNotFoundError, PermissionError):
            mode = stat.S_IMODE(file.stat().st_mode)
            if mode & 0o077 and (file == path or not file.is_symlink()):
                file.chmod(mode & 0o700)


def other_files(path: Path) -> list[Path]:
    """Return what else beside the database at `path` may hold messages: all but its own files.

    Backups, what earlier restores replaced, WALs whose database was lost, the folder of Litestream,
    and copies that were stopped halfway, even before they had a header.
    """
    files = sorted(file for file in path.parent.iterdir() if file != path)
    return [file for file in files if file.name.endswith(_OF_OTHERS) or is_ours(file)]


def refuse_own_file(path: Path, destination: Path) -> None:
    """Check that `destination`, which will be written, is no file of the database at `path`.

    Raises:
        OSError: it is one of its files, or has the name of one.
    """
    own, there = path.resolve(), destination.resolve()
    if own == there or (destination.exists() and destination.samefile(own)):
        raise OSError(errno.EINVAL, "is the database itself", str(destination))
    names = tuple(own.name + ending for ending in _OWN)
    if there.parent == own.parent and there.name.startswith(names):
        raise OSError(errno.EINVAL, "is a file of the database itself", str(destination))


def sync_folder(folder: Path) -> None:
    """Put the names of the files in `folder` on disk (fsync(2))."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_database(path: Path) -> bool:
    """Return whether the file at `path` begins like a database.

    SQLite deletes the WAL beside an empty file, and moves it into any other file. But the WAL may
    hold the only copy of messages. Only a process that has no connection to the file may call
    this: it closes the file, which drops such a connection's locks (sqlite.org/howtocorrupt.html,
    2.2).
    """
    return _header(path).startswith(HEADER_STRING)


def is_ours(path: Path) -> bool:
    """Return whether the file at `path` is a database of this service."""
    return is_our_header(_header(path))


def is_our_header(header: bytes) -> bool:
    """Return whether these first HEADER_BYTES of a file are of a database of this service."""
    return header[_APPLICATION_ID_AT : _APPLICATION_ID_AT + 4] == APPLICATION_ID.to_bytes(4, "big")


def _header(path: Path) -> bytes:
    """Return the first HEADER_BYTES; nothing if there is no file."""
    if not path.is_file():
        return b""
    with path.open("rb") as file:
        return file.read(HEADER_BYTES)


def free_bytes(folder: Path) -> int:
    """Return how many bytes are free on the disk of `folder`."""
    return shutil.disk_usage(folder).free


def check_space_for_copy(size: int, folder: Path) -> None:
    """Check that a copy of `size` bytes fits in `folder`, and can be checked there.

    Raises:
        OSError: it does not fit.
    """
    if (free := free_bytes(folder)) < size * _SIZES + _MORE_BYTES:
        about = f"no space for a copy of {size} bytes, {free} are free"
        raise OSError(errno.ENOSPC, about, str(folder))


def is_replacement_interrupted(path: Path) -> bool:
    """Return whether the old file was moved away, and the replacement is not yet in its place."""
    return not path.exists() and beside(path, REPLACEMENT).exists()


def complete_replacement(path: Path, _lock: WriteLock) -> None:
    """Rename the replacement to `path`, where no database is now."""
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
