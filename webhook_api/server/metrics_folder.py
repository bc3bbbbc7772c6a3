"""The folder with the files of the metrics: each master has one, and removes it at its end."""

import fcntl
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

_PREFIX = "webhook-metrics-"
_LOCK = "lock"
_NEEDED_BYTES = 16 * 1024 * 1024


def place_of_folder(shared_memory: str | None) -> Path:
    """Return where to make the folder: in `shared_memory`, if that exists and has space.

    The files are mapped into memory. If their disk is full, the first use of a page kills a worker
    (SIGBUS), and so each that replaces it.
    """
    if shared_memory and shutil.disk_usage(shared_memory).free >= _NEEDED_BYTES:
        return Path(shared_memory)
    return Path(tempfile.gettempdir())


def make_folder(place: Path) -> Path:
    """Make a folder that stays locked until this process and all its children have ended.

    Children inherit the lock (flock(2)) through the fork, and it ends with the last of them, even
    if they are killed.
    """
    hidden = _make_hidden(place)
    return hidden.rename(hidden.with_name(hidden.name.removeprefix(".")))


def make_again_if_missing(folder: Path) -> None:
    """Make `folder` again if something has emptied its place: no worker starts without it.

    The workers that run go on counting in the old files, which /metrics does not read.
    """
    if not folder.exists():
        _make_hidden(folder.parent).rename(folder)


def _make_hidden(place: Path) -> Path:
    # It has another name until it is locked, so that nobody removes it before.
    hidden = Path(tempfile.mkdtemp(prefix=f".{_PREFIX}", dir=place))
    # Never closed, so that the lock stays.
    lock = os.open(hidden / _LOCK, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    return hidden


def remove_left_behind(place: Path) -> None:
    """Remove the folders of this user whose master and workers have all ended.

    A folder without a lock file stays: an older version may use it.
    """
    for folder in place.glob(f"{_PREFIX}*"):
        with suppress(OSError):
            if folder.lstat().st_uid == os.getuid() and folder.is_dir():
                _remove_if_unused(folder)


def _remove_if_unused(folder: Path) -> None:
    lock = os.open(folder / _LOCK, os.O_RDWR | os.O_NOFOLLOW)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder)
    finally:
        os.close(lock)
