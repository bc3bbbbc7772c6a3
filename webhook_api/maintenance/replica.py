"""Litestream's replica, and what a copy of it is for: a drill, a standby, its promotion.

Each copy is a plain `litestream restore` into a file that nobody reads yet. With `restore -f`,
Litestream 0.5.17 would go on writing into a file that others read. A connection with a cache then
sees pages of two states in one statement, and if Litestream is killed halfway, the file is damaged
and cannot be followed any further.
"""

import errno
import json
import os
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from webhook_api.errors import SchemaError
from webhook_api.maintenance.backup import dated_backups, moment_of_name
from webhook_api.maintenance.replacing import replace
from webhook_api.maintenance.verify import DamagedError, check_copy
from webhook_api.store.copies import Progress, naming_full_disk, temporary_folder
from webhook_api.store.database import Database
from webhook_api.store.files import (
    LAST_DRILL,
    STANDBY,
    beside,
    check_space_for_copy,
    is_ours,
    sync_folder,
)
from webhook_api.store.lock import open_unshared
from webhook_api.store.schema import migrate
from webhook_api.timestamps import as_text

_BEHIND = timedelta(minutes=1)  # what the replica may lack; usually it is a second
_CONNECT_TIMEOUT_S = 3.0
_LOOK_EVERY_S = 1.0

Address = tuple[str, int]


class Source(NamedTuple):
    """Where a copy comes from: its name, the moment that it is of, and what writes it to a file.

    All that was stored before `complete_until` has to be in it.
    """

    name: str
    moment: datetime
    complete_until: datetime
    fetch: Callable[[Path], None]


class Replica:
    """What Litestream keeps of the database at `path`, as its configuration says."""

    def __init__(self, path: Path, configuration: Path | None) -> None:
        """Without `configuration` it is Litestream's own default."""
        self._arguments = [*(["-config", str(configuration)] if configuration else []), str(path)]

    def files(self) -> list[dict[str, str]]:
        """Return what Litestream says of each file of the replica; it may be empty.

        Raises:
            OSError: Litestream is not installed, or says why it failed.
        """
        listed = _litestream("ltx", "-level", "all", "-json", *self._arguments)
        with suppress(ValueError):
            files: list[dict[str, str]] = json.loads(listed) or []
            return files
        raise OSError(errno.EPROTO, "this version is unknown: 0.5.17 is known", "litestream ltx")

    def newest(self) -> Source:
        """Return what a restore brings back now.

        Raises:
            OSError: as above, or there is nothing in it.
        """
        moments = [datetime.fromisoformat(file["timestamp"]) for file in self.files()]
        if not moments:
            raise OSError(errno.ENOENT, "there is nothing in it", "replica")
        return Source("replica", max(moments), datetime.now(UTC) - _BEHIND, self._fetch)

    def _fetch(self, file: Path) -> None:
        _litestream("restore", "-o", str(file), *self._arguments)


def _litestream(command: str, *arguments: str) -> str:
    beside_python = str(Path(sys.executable).parent)
    program = shutil.which("litestream") or shutil.which("litestream", path=beside_python)
    if program is None:
        raise FileNotFoundError(errno.ENOENT, "is not installed", "litestream")
    run = subprocess.run(  # noqa: S603 - no shell
        [program, command, *arguments], capture_output=True, text=True, errors="replace"
    )
    if run.returncode:
        said = re.findall("^Error: (.*)", run.stderr, re.MULTILINE)
        raise OSError(errno.EIO, said[-1] if said else "it failed", f"litestream {command}")
    return run.stdout


def newest_backup(database: Database, folder: Path) -> Source:
    """Return the newest of the dated backups in `folder`.

    Raises:
        OSError: there is none.
    """
    backups = dated_backups(database, folder)
    if not backups:
        raise OSError(errno.ENOENT, "there is no backup of this database in it", str(folder))
    moment = moment_of_name(backups[-1])
    return Source(str(backups[-1]), moment, moment, partial(_copy, backups[-1]))


def _fetch(database: Database, source: Source, folder: Path) -> Path:
    """Copy `source` into `folder`, and return the copy."""
    check_space_for_copy(sum(database.sizes().values()), folder.parent)
    copy = folder / "copy.db"
    source.fetch(copy)
    if not is_ours(copy):
        raise OSError(errno.EINVAL, "is no database of this service", source.name)
    return copy


def _copy(file: Path, new: Path) -> None:
    with naming_full_disk(new):
        shutil.copyfile(file, new)


def _check(copy: Path, source: Source, progress: Progress) -> int:
    try:
        with closing(open_unshared(copy)) as of_any_version:
            migrate(of_any_version)
        return check_copy(copy, progress)
    except (SchemaError, sqlite3.Error) as error:
        raise OSError(errno.EIO, str(error), source.name) from None


def drill(
    database: Database, source: Source, scratch: Path, progress: Progress
) -> tuple[int, float, float]:
    """Restore `source` to a folder in `scratch`, check it, and compare it with the database.

    Returns how many messages it has, and how many seconds the restore took, and the check. The
    moment of a drill that went well is kept: it is the time of a file, which a scrape reads with
    one `stat`, and all processes see the same. In the database, a restore would turn it back.

    Raises:
        DamagedError: the copy has differences, or lacks messages.
        OSError: there is no copy to be had, or no space, or it is of another database.
    """
    began = time.time()
    with temporary_folder(scratch / f"{database.path.name}.drill") as folder:
        copy = _fetch(database, source, folder)
        fetched = time.time()
        messages = _check(copy, source, progress)
        checked = time.time()
        if database.path.exists():
            if missing := _missing(database, copy, source):
                raise DamagedError([missing])
            beside(database.path, LAST_DRILL).touch(mode=0o600)
            os.utime(beside(database.path, LAST_DRILL), (began, began))
    return messages, fetched - began, checked - fetched


def _missing(database: Database, copy: Path, source: Source) -> str:
    """Say which messages of the database are not in the copy as they are here; empty: none."""
    until = as_text(source.complete_until)
    columns = (
        "id, message_id, from_msisdn, to_msisdn, ts, text, created_at, provider, kind, payload"
    )
    with database.reader() as live:
        live.execute("ATTACH ? AS copy", [f"file:{quote(str(copy))}?mode=ro"])
        missing, first, same = live.execute(
            "SELECT count(*), min(id), (SELECT tombstone_key FROM main.totals) ="
            " (SELECT tombstone_key FROM copy.totals) FROM main.messages AS here"
            f" WHERE created_at < ? AND ({columns}) IS NOT"
            f" (SELECT {columns} FROM copy.messages AS there WHERE there.id = here.id)",
            [until],
        ).fetchone()
        live.execute("DETACH copy")
    if not same:
        raise OSError(errno.EINVAL, "is of another database", source.name)
    if not missing:
        return ""
    return f"{missing} messages from before {until} are not in it, the first is row {first}"


def _standby_mark(database: Database) -> Path:
    """Return the name of the file that says that the database is a copy.

    Raises:
        OSError: there is a database without this file.
    """
    mark = beside(database.path, STANDBY)
    if database.path.exists() and not mark.exists():
        raise OSError(errno.EEXIST, "is no copy that a standby made", str(database.path))
    database.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return mark


def follow(database: Database, replica: Replica) -> Source:
    """Make the database a copy of the replica as it is now; reads go on meanwhile.

    Raises:
        OSError: the database is no copy of a standby, or no copy could be made.
    """
    mark = _standby_mark(database)
    began = time.time()
    source = replica.newest()
    with temporary_folder(mark) as folder:
        copy = _fetch(database, source, folder)
        # Under the write lock: by now, `promote` may have removed the mark.
        _place(database, copy, lambda _new: _standby_mark(database).touch(mode=0o600))
    os.utime(mark, (began, began))
    return source


def _place(database: Database, copy: Path, finish: Callable[[Path], None]) -> None:
    replace(database, lambda new: _copy(copy, new), keep=False, finish=finish)


def promote(
    database: Database, replica: Replica, primary: Address, progress: Progress, *, watch_s: float
) -> tuple[Source, int]:
    """Make the standby's database the only one: the newest state of the replica, checked.

    Returns what it was copied from, and how many messages it has.

    Raises:
        OSError: something still listens at `primary`, or a file of the replica has changed within
            `watch_s` seconds (also an idle service writes, for a health check every ten seconds);
            or no copy could be made, or no standby made the database.
        DamagedError: the copy has differences.
    """
    mark = _standby_mark(database)
    _check_silent(primary)
    before, until = replica.files(), time.monotonic() + watch_s
    source = replica.newest()
    with temporary_folder(mark) as folder:
        copy = _fetch(database, source, folder)
        messages = _check(copy, source, progress)
        while replica.files() == before and time.monotonic() < until:
            time.sleep(_LOOK_EVERY_S)
        if replica.files() != before:
            raise OSError(errno.EBUSY, "it is still written to: stop who does that", source.name)

        def still_silent_and_a_copy(_new: Path) -> None:  # under the write lock
            _check_silent(primary)
            _standby_mark(database)

        _place(database, copy, still_silent_and_a_copy)
    mark.unlink(missing_ok=True)
    sync_folder(mark.parent)
    return source, messages


def _check_silent(primary: Address) -> None:
    """Check that nobody listens there: a process that hangs is still there, and so is a proxy.

    Raises:
        OSError: somebody does, or there is no such host.
    """
    shown = "{}:{}".format(*primary)
    try:
        socket.create_connection(primary, _CONNECT_TIMEOUT_S).close()
    except socket.gaierror as error:
        raise OSError(errno.EINVAL, error.strerror, shown) from None
    except OSError:
        return
    raise OSError(errno.EBUSY, "the primary still answers: stop it for good", shown)
