"""The files of a database: each has the name of the database and an ending, in the same folder."""

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path

from webhook_api.store.header import is_ours

WAL = "-wal"
WAL_INDEX = "-shm"
SQLITE_ENDINGS = (WAL, WAL_INDEX, "-journal")  # of the files that SQLite makes
WRITE_LOCK = ".lock"
REMOVAL_LOCK = ".removal.lock"
NAMES_LOCK = ".names.lock"  # of the names of these files: shared to open them, else to replace them
LAST_BACKUP = ".last-backup"  # holds when it was made
SESSIONS = ".sessions"  # the folder of those of the inbox
# The file that is to replace the database. The name is from the time when only `restore` did that;
# it stays, so that a start after an update finds the file of a command that was killed before.
REPLACEMENT = ".restored"
DISCARDED = ".discarded"  # the old database, if it is not kept, until it is deleted
SCRATCH = ".compacting"  # the copy on which a compaction works
VERIFIED = ".verifying"  # the copy that `verify` checks
PARTIAL = ".partial"  # ends the name of any file that is not complete yet, or only for a while
ORPHAN = ".orphan"  # after that of a WAL whose database was lost

_OWN = (
    *SQLITE_ENDINGS, WRITE_LOCK, REMOVAL_LOCK, NAMES_LOCK, LAST_BACKUP, SESSIONS, REPLACEMENT,
    DISCARDED, SCRATCH, VERIFIED,
)  # fmt: skip
_OF_OTHERS = (ORPHAN, PARTIAL, "-litestream")


def beside(path: Path, ending: str) -> Path:
    """Return the path of the file with this ending that belongs to the file at `path`."""
    return path.with_name(path.name + ending)


def make_private(path: Path) -> None:
    """Let only their owner use the files of the database at `path`, also those that it replaced.

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


def create_private(path: Path) -> None:
    """Create an empty file at `path`, if there is none, that only our user can read."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))


def other_files(path: Path) -> list[Path]:
    """Return what is beside the database at `path`, holds messages as well, and is not its own.

    Backups, what earlier restores replaced, WALs whose database was lost, copies that were
    stopped halfway, whose header may be missing still, and the folder of Litestream.
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
    if there.parent == own.parent and there.name.startswith(
        tuple(own.name + ending for ending in _OWN)
    ):
        raise OSError(errno.EINVAL, "is a file of the database itself", str(destination))
