"""The lock of all who write: a file that every process locks before it writes the database.

Everything that writes, commits or checkpoints does so under it. The kernel queues writers fairly
there, where SQLite's own busy handler sleeps and polls; and no checkpoint can run beside a commit,
which is what corrupts a WAL in SQLite 3.7.0 to 3.51.2 (sqlite.org/wal.html#walresetbug). Readers
open the file read-only, and a read-only connection never checkpoints, not even when it is the
last to close.
"""

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_RETRY_S = 0.01


class WriteLock:
    """The right to write, and a mark that stays when its holder dies: the disk is in doubt.

    The mark is the size of the lock file: 0 or 1. It needs no room on the disk and no sync: it
    is about what the page cache shows and the disk may not have, and both end together.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @property
    def in_doubt(self) -> bool:
        """Whether a write failed since the state on disk was last known to be good."""
        return os.fstat(self._descriptor).st_size > 0

    def mark_in_doubt(self, in_doubt: bool) -> None:
        """Set or remove the mark, for every process.

        Raises:
            OSError: the file system does not take it.
        """
        os.ftruncate(self._descriptor, int(in_doubt))


@contextmanager
def hold_folder(folder: Path, *, exclusive: bool, patience_s: float) -> Iterator[None]:
    """Hold the lock of the names in `folder`: shared to open several that belong together.

    Exclusive to change which files they are. The lock is on the folder itself, so that to read
    needs no room on the disk.

    Raises:
        BlockingIOError: others still hold it after `patience_s`.
        OSError: the folder is gone.
    """
    deadline = time.monotonic() + patience_s
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        while True:
            try:
                fcntl.flock(
                    descriptor, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB
                )
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise
            time.sleep(_RETRY_S)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def hold(path: Path, patience_s: float | None = None) -> Iterator[WriteLock]:
    """Hold the lock at `path`, in turn with every other thread and process.

    Without a limit to the patience the kernel queues us; with one, we look again and again.

    Raises:
        BlockingIOError: another still holds it after `patience_s`.
        OSError: the folder is gone or cannot be written.
    """
    deadline = None if patience_s is None else time.monotonic() + patience_s
    descriptor = _take(path, deadline)
    try:
        yield WriteLock(descriptor)
    finally:
        os.close(descriptor)


def _take(path: Path, deadline: float | None) -> int:
    while True:
        # Opened each time, so that the lock is of the folder that is at this path now.
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (fcntl.LOCK_NB if deadline is not None else 0))
            # While we waited it may have been replaced, and others lock the new one.
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        except BlockingIOError:
            if deadline is not None and time.monotonic() >= deadline:
                os.close(descriptor)
                raise BlockingIOError(errno.EAGAIN, "another process is writing") from None
            time.sleep(_RETRY_S)
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
