"""Compaction: the database is made again, without free pages and without removed messages.

Removing a row leaves its bytes in the file, the WAL and the search index. So the work is done on
a copy, which then replaces the database: nothing of what was removed is left in any of its files.
The service goes on meanwhile, and what it stores is added to the new file.
"""

import errno
import os
import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from webhook_api.maintenance.removal import removal_lock
from webhook_api.maintenance.replacing import TIMEOUT_S, replace
from webhook_api.maintenance.verify import check_copy
from webhook_api.store import copies, files
from webhook_api.store.connections import Connection, FileIdentity, primary_result_code
from webhook_api.store.database import Database
from webhook_api.store.dead_letters import remove_dead_letters, select_dead_letters
from webhook_api.store.indexing import index_messages
from webhook_api.store.lock import LockedConnection, open_unshared, read_transaction, transaction
from webhook_api.store.messages import Selection, add_tombstones, remove_messages
from webhook_api.store.positions import count_missed, note_removed
from webhook_api.store.schema import check_schema

_COPIES = 2  # of the database, that are on the disk at the same time
_BATCH_ROWS = 1000
_FEW = 200  # rows that the last pass should add at most: all deliveries wait for it
_PASSES = 20  # after these it adds the rest anyway
_SYNC_EVERY_S = 0.05
_INSTRUCTIONS = 1000  # of SQLite, after which it looks at the clock


class Compacted(NamedTuple):
    """What a compaction did."""

    removed: int  # messages
    removed_letters: int  # dead letters
    bytes_before: int
    bytes_after: int


def compact(
    database: Database,
    selection: Selection,
    progress: copies.Progress = copies.no_progress,
    *,
    timeout_s: float = TIMEOUT_S,
    few: int = _FEW,
) -> Compacted:
    """Make the database again without the messages that `selection` selects.

    Each of them leaves a tombstone. It is all or nothing: after a stop, the database is as before.
    Litestream is waited for `timeout_s` seconds. Deliveries wait while the last rows are added,
    `few` of them if possible.

    Raises:
        BlockingIOError: another process removes messages, or replaces the database.
        DamagedError: the new file failed its check; the database stays.
        OSError: there is no space for two copies.
    """
    with removal_lock(database):
        before = sum(database.sizes().values())
        work = _Compaction(database, selection, progress, few)
        replace(database, work.make, finish=work.finish, keep=False, timeout_s=timeout_s)
        after = database.sizes()["database"]
        return Compacted(work.removed, work.removed_letters, before, after)


@dataclass
class _Compaction:
    """The steps of one compaction, and what they know of the database when it was copied."""

    database: Database
    selection: Selection
    progress: copies.Progress
    few: int
    removed: int = 0  # messages
    removed_letters: int = 0
    pruned: list[int] = field(default_factory=list)  # their ids, if they are removed by age
    identity: FileIdentity = field(init=False)
    removals: tuple[int, int] = field(init=False)
    last_id: int = field(init=False)  # rows up to here are in the new file, or removed

    def make(self, new: Path) -> None:
        """Write the database to `new`, and nearly all that is stored while this runs."""
        folder = self.database.path.parent
        files.check_space_for_copy(_COPIES * sum(self.database.sizes().values()), folder)
        with copies.naming_full_disk(folder):
            base = files.beside(self.database.path, files.SCRATCH)
            with copies.temporary_file(base) as (scratch, _):
                with self.database.reader() as live:
                    check_schema(live)
                    self.identity = live.identity
                    copies.copy_moment(live, scratch, partial(self._show, 0))
                with closing(open_unshared(scratch, "journal_mode = OFF")) as copy:
                    self.removals = _removals(copy)
                    self.last_id = _last_id(copy)
                    self._remove(copy)
                    _tidy(copy)
                    self._show(2)
                    _vacuum_into(copy, new)
            self._show(3)
            check_copy(new, partial(self._show, 3))
            for _ in range(_PASSES):
                if self._add_newer(new) <= self.few:
                    break

    def finish(self, new: Path) -> None:
        """Add the last rows to `new`; `replace` calls this under the write lock."""
        with copies.naming_full_disk(self.database.path.parent):
            self._add_newer(new)

    def _show(self, step: int, done: int = 0, of: int = 1) -> None:
        self.progress(100 * step + 100 * done // max(of, 1), 400)

    def _remove(self, copy: LockedConnection) -> None:
        condition, parameters, _ = self.selection
        found = copy.execute(f"SELECT id FROM messages WHERE {condition}", parameters).fetchall()
        row_ids = sorted(row_id for (row_id,) in found)
        if self.selection.is_by_age:
            self.pruned += row_ids
        for at in range(0, len(row_ids), _BATCH_ROWS):
            self._show(1, at, len(row_ids))
            self.removed += remove_messages(copy, row_ids[at : at + _BATCH_ROWS], self.selection)
        if letters := select_dead_letters(copy, self.selection):
            self.removed_letters += remove_dead_letters(copy, letters)

    def _add_newer(self, new: Path) -> int:
        """Add to `new` what was stored since the last call or the copy; return how many rows.

        Raises:
            BlockingIOError: the database was replaced since, or messages were removed.
        """
        condition, parameters, _ = self.selection
        count = 0
        with (
            self.database.reader() as live,
            closing(open_unshared(new)) as copy,
            read_transaction(live),
            transaction(copy),
        ):
            if live.identity != self.identity or _removals(live) != self.removals:
                raise BlockingIOError(
                    errno.EAGAIN, "something else removed messages or replaced the database"
                )
            rows = live.execute(
                f"SELECT ({condition}), * FROM messages WHERE id > ? ORDER BY id",
                [*parameters, self.last_id],
            )
            while part := rows.fetchmany(_BATCH_ROWS):
                count += len(part)
                self._add(copy, part)
            self._add_letters(live, copy)
            # Where the consumers are now: they may have read on. And no id may be used twice, even
            # if the row with the newest one was not added.
            for table in ("consumers", "sqlite_sequence"):
                copy.execute(f"DELETE FROM {table}")
                _insert(copy, table, live.execute(f"SELECT * FROM {table}").fetchall())
            count_missed(copy, self.pruned)
            self.last_id = _last_id(live)
        return count

    def _add_letters(self, live: Connection, copy: LockedConnection) -> None:
        """Add the dead letters that are newer than those in `copy`."""
        known = _last_id(copy, "dead_letters")
        if _last_id(live, "dead_letters") == known:
            return
        selected = set(select_dead_letters(live, self.selection))
        for letter in live.execute("SELECT * FROM dead_letters WHERE id > ?", [known]):
            if letter[0] in selected:
                self.removed_letters += 1
            else:
                _insert(copy, "dead_letters", [letter])

    def _add(self, copy: LockedConnection, rows: Sequence[Sequence[Any]]) -> None:
        _insert(copy, "messages", [row for selected, *row in rows if not selected])
        gone = [
            (row_id, message_id, created_at)
            for selected, row_id, message_id, _, _, _, _, created_at, *_ in rows
            if selected
        ]
        if gone:
            add_tombstones(copy, [message_id for _, message_id, _ in gone])
            note_removed(copy, gone, by_age=self.selection.is_by_age)
            if self.selection.is_by_age:
                self.pruned += [row_id for row_id, _, _ in gone]
            copy.execute(
                "UPDATE totals SET deletions = deletions + ?, last_deletion = random()",
                [len(gone)],
            )
            self.removed += len(gone)


def _insert(copy: LockedConnection, table: str, rows: Sequence[Sequence[Any]]) -> None:
    if rows:
        marks = ", ".join("?" * len(rows[0]))
        copy.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)


def _removals(db: Connection) -> tuple[int, int]:
    """Return what differs after each removal of messages."""
    removals: tuple[int, int] = db.execute("SELECT deletions, last_deletion FROM totals").fetchone()
    return removals


def _last_id(db: Connection, table: str = "messages") -> int:
    row = db.execute("SELECT seq FROM sqlite_sequence WHERE name = ?", [table]).fetchone()
    return row[0] if row else 0


def _tidy(copy: LockedConnection) -> None:
    """Leave nothing of removed messages in the search index and among the characters."""
    while index_messages(copy, max_rows=10 * _BATCH_ROWS):
        pass
    copy.execute("INSERT INTO messages_search (messages_search) VALUES ('optimize')")
    copy.execute("DELETE FROM characters WHERE messages = 0")


def _vacuum_into(copy: Connection, new: Path) -> None:
    """Write the content of `copy` to the empty file `new`, and sync it while it grows.

    Otherwise the next sync of the service would wait for all of it.
    """
    failures: list[OSError] = []
    next_sync = 0.0

    def sync_if_due() -> bool:
        nonlocal next_sync
        if time.monotonic() >= next_sync:
            try:
                os.fdatasync(file)
            except OSError as error:
                failures.append(error)
            next_sync = time.monotonic() + _SYNC_EVERY_S
        return bool(failures)

    with new.open("rb") as file:
        copy.set_progress_handler(sync_if_due, _INSTRUCTIONS)
        try:
            copy.execute("VACUUM INTO ?", [str(new)])
        except sqlite3.OperationalError as error:
            if failures:
                raise failures[0] from None
            if primary_result_code(error) == sqlite3.SQLITE_INTERRUPT:
                # Ctrl-C in `sync_if_due`: sqlite3 drops its exception.
                raise KeyboardInterrupt from None
            raise
        finally:
            copy.set_progress_handler(None, 0)
