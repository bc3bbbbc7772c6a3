"""Work for a process of its own (see `forks`). Most of it kills the process in the midst of it."""

import os
import shutil
import signal
import sys
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from webhook_api.maintenance.compaction import compact
from webhook_api.maintenance.replacing import replace
from webhook_api.maintenance.restore import restore
from webhook_api.store.connections import connect
from webhook_api.store.database import Database
from webhook_api.store.lock import unshared
from webhook_api.store.messages import of_number
from webhook_api.store.schema import migrate


def prepare(path: Path) -> None:
    """Create the database at `path`, or bring its schema up to date."""
    Database(path).prepare(create=True)


def restore_until(path: Path, backup: Path, steps: int, *, keep: bool) -> None:
    """Put `backup` in the place of the database, and die after so many steps.

    The steps: each name that is given or removed.
    """
    database = Database(path)
    not_counted = (".partial", ".discarded") if keep else (".partial",)

    def counts(event: str, args: tuple[Any, ...]) -> bool:
        return event == "os.rename" or (
            event == "os.remove" and not any(ending in str(args[0]) for ending in not_counted)
        )

    _die_after(steps, counts)
    if keep:
        restore(database, backup)
    else:
        replace(database, partial(_copy, backup), keep=False)


def _copy(backup: Path, new: Path) -> None:
    shutil.copyfile(backup, new)


def forget_until(path: Path, number: str, steps: int) -> None:
    """Forget `number`, and die after so many steps.

    The steps: each file that is opened, shortened, renamed or deleted.
    """
    database = Database(path)
    counted = ("os.rename", "os.remove", "sqlite3.connect", "os.truncate")
    _die_after(steps, lambda event, _args: event in counted)
    compact(database, of_number(number))


def migrate_until(path: Path, statement: str, index_from: int) -> None:
    """Migrate, and die just before `statement` runs."""

    def die(sql: str) -> None:
        if statement in sql:
            os.kill(os.getpid(), signal.SIGKILL)

    with closing(unshared(connect(path, "rw", timeout_s=0))) as db:
        db.set_trace_callback(die)
        migrate(db, index_from=index_from)


def _die_after(steps: int, counts: Callable[[str, tuple[Any, ...]], bool]) -> None:
    left = steps

    def die(event: str, args: tuple[Any, ...]) -> None:
        nonlocal left
        if counts(event, args):
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1

    sys.addaudithook(die)
