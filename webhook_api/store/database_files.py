"""The files of a database: each has the name of the database and an ending, in the same folder."""

import errno
import re
from pathlib import Path

from webhook_api.store.header import is_ours

WAL = "-wal"
WAL_INDEX = "-shm"
SQLITE_ENDINGS = (WAL, WAL_INDEX, "-journal")  # of the files that SQLite makes
WRITE_LOCK = ".lock"
REMOVAL_LOCK = ".removal.lock"
LAST_BACKUP = ".last-backup"  # holds when it was made
# The file that is to replace the database. The name is from the time when only `restore` did that;
# it stays, so that a start after an update finds the file of a command that was killed before.
REPLACEMENT = ".restored"
DISCARDED = ".discarded"  # the old database, if it is not kept, until it is deleted
SCRATCH = ".compacting"  # the copy on which a compaction works
PARTIAL = ".partial"  # after the name of any file that is not complete yet
VERIFY_PREFIX = ".verify-"  # of the folder with the copy that `verify` checks
VERIFIED = "copy.db"  # that copy
ORPHAN = ".orphan"  # after that of a WAL whose database was lost

_OWN = (
    *SQLITE_ENDINGS, WRITE_LOCK, REMOVAL_LOCK, LAST_BACKUP, REPLACEMENT, DISCARDED, SCRATCH,
)  # fmt: skip
_OF_OTHERS = (ORPHAN, PARTIAL, "-litestream")


def _any_of(*endings: str) -> str:
    return f"({'|'.join(map(re.escape, endings))})"


_OWN_ENDINGS = re.compile(f"{_any_of(*_OWN)}{_any_of(PARTIAL, *SQLITE_ENDINGS)}?")


def beside(path: Path, ending: str) -> Path:
    """Return the path of the file with this ending that belongs to the file at `path`."""
    return path.with_name(path.name + ending)


def temporary_files(path: Path) -> list[Path]:
    """Return the names of files that a killed command may have left of the database at `path`."""
    verified = path.parent.glob(f"{VERIFY_PREFIX}*/{VERIFIED}")
    return [beside(path, SCRATCH), beside(path, REPLACEMENT + PARTIAL), *verified]


def other_files(path: Path) -> list[Path]:
    """Return what is beside the database at `path`, holds messages as well, and is not its own.

    Backups, what earlier restores replaced, WALs whose database was lost, copies that were
    stopped halfway, whose header may be missing still, the folder of a `verify` that was killed,
    and that of Litestream.
    """
    files = sorted(file for file in path.parent.iterdir() if file != path)
    return [
        file
        for file in files
        if file.name.endswith(_OF_OTHERS) or file.name.startswith(VERIFY_PREFIX) or is_ours(file)
    ]


def refuse_own_file(path: Path, destination: Path) -> None:
    """Check that `destination`, which will be written, is no file of the database at `path`.

    Raises:
        OSError: it is one of its files, or has the name of one.
    """
    own, there = path.resolve(), destination.resolve()
    if own in (there, beside(there, PARTIAL)) or (
        destination.exists() and destination.samefile(own)
    ):
        raise OSError(errno.EINVAL, "is the database itself", str(destination))
    if there.parent == own.parent and _OWN_ENDINGS.fullmatch(there.name.removeprefix(own.name)):
        raise OSError(errno.EINVAL, "is a file of the database itself", str(destination))
