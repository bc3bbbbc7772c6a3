"""The folder of the metrics' files: one for each master, and gone when it is."""

import fcntl
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

_PREFIX = "webhook-metrics-"
_LOCK = "lock"


def make_folder(place: Path) -> Path:
    """Make a folder that counts as used until this process and its children have ended.

    So does a lock (flock(2)): children inherit it through the fork, and it ends with the last of
    them, however they die.
    """
    # Under another name until it is locked, so that nobody finds it unlocked.
    hidden = Path(tempfile.mkdtemp(prefix=f".{_PREFIX}", dir=place))
    # Never closed.
    lock = os.open(hidden / _LOCK, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    return hidden.rename(hidden.with_name(hidden.name.removeprefix(".")))


def remove_left_behind(place: Path) -> None:
    """Remove the folders of this user whose master, and all its workers, are gone.

    Without a lock file, it is not for us to say: an older version may use it.
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
