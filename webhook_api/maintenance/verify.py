"""Checks a database, or a copy of one: what is compared, and on what."""

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from webhook_api.maintenance.rows import COUNTED_PERIODS, INDEX_ROWS, MAX_SHOWN, wrong_values
from webhook_api.store.background import run_in_parallel
from webhook_api.store.connections import Connection, connect, primary_result_code
from webhook_api.store.consumers import list_consumers
from webhook_api.store.copies import (
    Progress,
    copy_moment,
    naming_full_disk,
    no_progress,
    temporary_file,
)
from webhook_api.store.database import Database
from webhook_api.store.files import VERIFIED, check_space_for_copy
from webhook_api.store.indexing import PERIOD_SCALE, count_characters, index_messages
from webhook_api.store.lock import LockedConnection, read_transaction, unshared
from webhook_api.store.messages import DIGEST_BYTES, digest
from webhook_api.store.positions import PositionLost, resolve_position
from webhook_api.store.schema import check_schema, foreign_objects

_FORGET_TABLES_WITHOUT_PAGES = """
    BEGIN;
    PRAGMA writable_schema = ON;
    DELETE FROM sqlite_master WHERE rootpage = 0;
    PRAGMA writable_schema = RESET;
"""

_CHECK_INDEX = "INSERT INTO messages_search (messages_search, rank) VALUES ('integrity-check', 1)"

# Name, kept value and counted value of each row that differs; a value that is missing is NULL.
_DERIVED = {
    "totals": """
        SELECT 'messages', totals.messages, counted.n
            FROM totals, (SELECT count(*) AS n FROM messages) counted
            WHERE totals.messages <> counted.n
        UNION ALL
        SELECT 'senders', totals.senders, counted.n
            FROM totals, (SELECT count(DISTINCT from_msisdn) AS n FROM messages) counted
            WHERE totals.senders <> counted.n
        UNION ALL
        SELECT 'indexed', totals.indexed, counted.last
            FROM totals, (
                SELECT coalesce(max(seq), 0) AS last FROM sqlite_sequence WHERE name = 'messages'
            ) counted
            WHERE totals.indexed NOT BETWEEN 0 AND counted.last
        UNION ALL
        SELECT 'only_row', count(*), 1 FROM totals HAVING count(*) <> 1
    """,
    "dead_letters": """
        SELECT 'totals', dead_letters || ' of ' || dead_bytes, n || ' of ' || size
            FROM totals, (
                SELECT count(*) AS n, coalesce(sum(length(body)), 0) AS size FROM dead_letters
            ) WHERE (dead_letters, dead_bytes) <> (n, size)
    """,
    "senders": """
        SELECT from_msisdn, max(kept), max(counted) FROM (
            SELECT from_msisdn, messages AS kept, NULL AS counted FROM senders
            UNION ALL
            SELECT from_msisdn, NULL, count(*) FROM messages GROUP BY from_msisdn
        ) GROUP BY from_msisdn HAVING max(kept) IS NOT max(counted)
    """,
    "periods": f"""
        {COUNTED_PERIODS}
        SELECT length || '/' || start, max(kept), max(counted) FROM (
            SELECT length, start, messages AS kept, NULL AS counted FROM periods
            UNION ALL
            SELECT length, start, NULL, messages FROM counted
        ) GROUP BY length, start HAVING max(kept) IS NOT max(counted)
    """,
    "sender_periods": f"""
        SELECT period || '/' || from_msisdn, max(kept), max(counted) FROM (
            SELECT period, from_msisdn, messages AS kept, NULL AS counted FROM sender_periods
            UNION ALL
            SELECT seconds >> {PERIOD_SCALE}, from_msisdn, NULL, count(*) FROM messages
                WHERE id <= (SELECT indexed FROM totals) GROUP BY 1, 2
        ) GROUP BY period, from_msisdn HAVING max(kept) IS NOT max(counted)
    """,
}

Check = Callable[[LockedConnection], Iterable[str]]


def check_totals(db: Connection) -> Iterator[str]:
    """Compare the numbers of messages and senders with the rows."""
    return _described("totals", db.execute(_DERIVED["totals"]).fetchall())


def _derived(db: Connection) -> Iterator[str]:
    for name, sql in _DERIVED.items():
        yield from _described(name, db.execute(sql).fetchall())
    yield from _described("characters", _characters(db))
    yield from _tombstones(db)
    yield from _consumers(db)


def _characters(db: Connection) -> list[tuple[str, int, int]]:
    texts = "SELECT lower(body) FROM searchable WHERE id <= (SELECT indexed FROM totals)"
    made = count_characters(db.execute(texts))
    kept = Counter(dict(db.execute("SELECT character, messages FROM characters").fetchall()))
    return [
        (repr(character), kept[character], made[character])
        for character in sorted(kept | made)
        if kept[character] != made[character]
    ]


def _tombstones(db: Connection) -> Iterator[str]:
    (key,) = db.execute("SELECT tombstone_key FROM totals").fetchone() or (None,)
    if not key:
        yield "totals: the key of the tombstones is missing"
        return
    kept = {row[0] for row in db.execute("SELECT digest FROM tombstones")}
    ids = db.execute("SELECT message_id FROM messages") if kept else ()
    both = [message_id for (message_id,) in ids if digest(key, message_id) in kept]
    yield from (f"tombstones {one}: is stored, and removed as well" for one in both[:MAX_SHOWN])
    wrong = sum(len(one) != DIGEST_BYTES for one in kept)
    if wrong:
        yield f"tombstones: {wrong} are not of {DIGEST_BYTES} bytes"


def _consumers(db: Connection) -> Iterator[str]:
    """Look for consumers whose position no row proves: each would be told that it diverged."""
    if any(foreign_objects(db)):  # then a value may be of any type
        return
    for consumer in list_consumers(db):
        try:
            resolve_position(db, consumer.position)
        except PositionLost as lost:
            if lost.body["code"] == "diverged":
                yield f"consumers {consumer.name}: no row proves its position {consumer.position}"


def _described(name: str, rows: Sequence[tuple[object, object, object]]) -> Iterator[str]:
    for row, kept, made in rows[:MAX_SHOWN]:
        yield f"{name} {row}: kept is {_shown(kept)}, should be {_shown(made)}"
    if len(rows) > MAX_SHOWN:
        yield f"{name}: {len(rows)} differ in all"


def _shown(value: object) -> object:
    return "nothing" if value is None else value


def _search_index(db: LockedConnection) -> Iterator[str]:
    try:
        while index_messages(db, max_rows=INDEX_ROWS):
            pass
        db.execute(_CHECK_INDEX)
    except sqlite3.DatabaseError as error:
        if primary_result_code(error) != sqlite3.SQLITE_CORRUPT:
            raise
        yield f"messages_search: the index is not that of the texts ({error})"


def check_file(db: Connection) -> Iterator[str]:
    # SQLite does not look for unused pages if the first table in its list has the root page 0,
    # which means to it that only a part should be checked. Views and virtual tables have it.
    db.executescript(_FORGET_TABLES_WITHOUT_PAGES)
    try:
        for (text,) in db.execute(f"PRAGMA integrity_check({MAX_SHOWN})"):
            for line in text.splitlines():
                if line != "ok" and not line.startswith("***"):
                    yield f"integrity_check: {line}"
    finally:
        db.execute("ROLLBACK")
    for table, row_id, *_ in db.execute("PRAGMA foreign_key_check"):
        yield f"foreign_key_check: {table} {row_id}"


# In two threads; of the two, only the second writes.
CHECKS: Sequence[Sequence[Check]] = (
    (foreign_objects, wrong_values, _derived),
    (_search_index, check_file),
)


_CACHE_KIB = 32 * 1024


class Report(NamedTuple):
    """How many messages there are, and one line for each thing that is not as it should be."""

    messages: int
    differences: list[str]


class DamagedError(Exception):
    """A copy failed its check; `report` says what differs."""

    def __init__(self, report: Report) -> None:
        super().__init__(f"{len(report.differences)} differences")
        self.report = report


def verify(database: Database, scratch: Path | None = None) -> Report:
    """Check a copy of the database as it is at one moment.

    Why a copy: FTS5's own check is a write, and deliveries would wait for it, 10 s per million
    messages; and a long read lets the WAL grow. The copy is made in the folder `scratch`, by
    default beside the database.

    Raises:
        OSError: there is no space for a copy.
    """
    folder = scratch or database.path.parent
    check_space_for_copy(sum(database.sizes().values()), folder)
    with temporary_file(folder / (database.path.name + VERIFIED)) as (path, _):
        with database.reader() as live:
            check_schema(live)
            copy_moment(live, path)
        return check_copy(path)


def check_copy(path: Path, progress: Progress = no_progress) -> Report:
    """Check the file at `path`, which nobody else uses. It changes: all of it is indexed."""
    with naming_full_disk(path), ExitStack() as opened:
        connections = [opened.enter_context(closing(_open(path))) for _ in CHECKS]
        counted, _ = connections
        opened.enter_context(read_transaction(counted))  # without what is indexed from now on
        check_schema(counted)
        messages = counted.execute("SELECT count(*) FROM messages").fetchone()[0]
        found = run_in_parallel([found_by(checks) for checks in CHECKS], connections, progress)
    return Report(messages, list(chain.from_iterable(found)))


def _open(path: Path) -> LockedConnection:
    connection = unshared(connect(path, "rw", timeout_s=0))
    connection.execute("PRAGMA journal_mode = WAL")  # so that one can read while another writes
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    return connection


def found_by(checks: Sequence[Check]) -> Callable[[LockedConnection], list[str]]:
    def found(db: LockedConnection) -> list[str]:
        differences: list[str] = []
        for check in checks:
            try:
                differences += check(db)
            except sqlite3.OperationalError as error:
                if not str(error).startswith("Could not decode to UTF-8"):
                    raise
                where = str(error).partition(" with text")[0]  # without the text itself
                differences.append(f"messages: {where}")
        return differences

    return found
