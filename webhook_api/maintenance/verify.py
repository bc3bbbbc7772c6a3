"""Checks a database, or a copy of one: what is compared, and on what."""

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    StringConstraints,
    TypeAdapter,
    ValidationError,
)
from pydantic_core import PydanticCustomError, from_json

from webhook_api.models import MAX_TEXT_CHARS, NAME_PATTERN
from webhook_api.store import copies, files
from webhook_api.store.background import run_in_parallel
from webhook_api.store.connections import Connection, primary_result_code
from webhook_api.store.counting import PERIODS_S
from webhook_api.store.database import Database
from webhook_api.store.indexing import PERIOD_SCALE, count_characters, index_messages
from webhook_api.store.lock import LockedConnection, open_unshared, read_transaction
from webhook_api.store.messages import DIGEST_BYTES, KEY_BYTES, digest
from webhook_api.store.positions import Diverged, Pruned, list_consumers, resolve_position
from webhook_api.store.schema import check_schema, foreign_objects
from webhook_api.timestamps import Timestamp

_MAX_SHOWN = 10  # differences of one check
_INDEX_ROWS = 10_000  # at once


def _bytes(count: int) -> Any:
    return Annotated[bytes, Field(min_length=count, max_length=count)]


def _number(low: int) -> Any:
    return Annotated[int, Field(ge=low, lt=2**62)]  # far from SQLite's largest


_COUNT, _NUMBER = _number(0), _number(-(2**62))
_NAME = Annotated[str, StringConstraints(min_length=1)]
_TEXT = Annotated[str, StringConstraints(max_length=MAX_TEXT_CHARS)] | None
_JSON = Annotated[str, AfterValidator(from_json)] | None
_SERVER_TIME = r"^[0-9]{4}(-[0-9]{2}){2}T([0-9]{2}:){2}[0-9]{2}\.[0-9]{3}Z$"
_TIME = Annotated[str, StringConstraints(pattern=_SERVER_TIME)]
_DIGITS = Annotated[str, StringConstraints(pattern="^[a-z2-7]{8}$")]  # of a position
_DIGITS_OR_NONE = Annotated[str, StringConstraints(pattern="^(?:[a-z2-7]{8})?$")]
_CONSUMER_NAME = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]

# The tables that a restore copies, and what a good value of each column is. What an older file does
# not have is left out. `_wrong_rows` relies on the order of the first six columns of `messages`.
TABLES: Mapping[str, Mapping[str, Any]] = {
    "messages": {
        "id": _number(1), "ts": _NAME, "seconds": _NUMBER, "nanos": _NUMBER, "text": _TEXT,
        "message_id": _NAME, "from_msisdn": _NAME, "to_msisdn": _NAME, "created_at": _TIME,
        "provider": _NAME, "kind": _TEXT, "payload": _JSON,
    },
    "dead_letters": {
        "id": _number(1), "provider": _NAME, "reason": _TEXT, "headers": _JSON, "body": bytes,
        "created_at": _TIME,
    },
    "removed_positions": {"id": _COUNT, "digits": _DIGITS_OR_NONE},
    "consumers": {
        "name": _CONSUMER_NAME, "id": _COUNT, "digits": _DIGITS, "missed": _COUNT,
        "updated_at": _TIME,
    },
    "tombstones": {"digest": _bytes(DIGEST_BYTES)},
    "totals": {"deletions": _NUMBER, "last_deletion": int, "tombstone_key": _bytes(KEY_BYTES)},
    "sqlite_sequence": {"name": _NAME, "seq": _NUMBER},
}  # fmt: skip

_FORGET_TABLES_WITHOUT_PAGES = """
    BEGIN;
    PRAGMA writable_schema = ON;
    DELETE FROM sqlite_master WHERE rootpage = 0;
    PRAGMA writable_schema = RESET;
"""

_CHECK_INDEX = "INSERT INTO messages_search (messages_search, rank) VALUES ('integrity-check', 1)"

_PERIODS = " UNION ALL ".join(
    f"SELECT {length}, second - (second % {length} + {length}) % {length}, sum(messages)"
    " FROM seconds GROUP BY 2"
    for length in PERIODS_S
)
COUNTED_PERIODS = f"""
    WITH seconds (second, messages) AS (
        SELECT seconds, count(*) FROM messages GROUP BY 1
    ), counted (length, start, messages) AS ({_PERIODS})
"""

# Name, kept value and counted value of each row that differs; a value that is missing is NULL.
_DERIVED = {
    "totals": """
        SELECT * FROM (
            SELECT 'messages', messages AS kept, (SELECT count(*) FROM messages) AS counted
                FROM totals
            UNION ALL
            SELECT 'senders', senders, (SELECT count(DISTINCT from_msisdn) FROM messages)
                FROM totals
            UNION ALL
            SELECT 'only_row', count(*), 1 FROM totals
        ) WHERE kept <> counted
        UNION ALL
        SELECT 'indexed', indexed, last FROM totals, (
            SELECT coalesce(max(seq), 0) AS last FROM sqlite_sequence WHERE name = 'messages'
        ) WHERE indexed NOT BETWEEN 0 AND last
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


def wrong_values(db: Connection) -> Iterator[str]:
    """Yield a line for each of the first values that our own code cannot have stored."""
    for table in TABLES:
        yield from islice(_wrong_rows(db, table), _MAX_SHOWN)


def columns_of(db: Connection, table: str, schema: str = "main") -> list[str]:
    """Return those of the columns in `TABLES` that a table of a file has."""
    found = db.execute("SELECT name FROM pragma_table_info(?, ?)", [table, schema])
    there = {name for (name,) in found}
    return [column for column in TABLES[table] if column in there]


def _wrong_rows(db: Connection, table: str) -> Iterator[str]:
    columns = columns_of(db, table)
    if not columns:
        return
    row_type: Any = tuple.__class_getitem__(tuple(TABLES[table][column] for column in columns))
    check = TypeAdapter[Any](row_type, config=ConfigDict(strict=True)).validate_python
    for row in db.execute(f"SELECT {', '.join(columns)} FROM {table} NOT INDEXED"):
        try:
            check(row)
        except ValidationError as error:
            places = sorted({int(one["loc"][0]) for one in error.errors()})
            wrong = ", ".join(columns[place] for place in places)
            where = f" of row {row[0]}" if table == "messages" else ""
            yield f"{table}: {wrong}{where} cannot be used"
            continue
        if table == "messages" and _instant(row[1]) != row[2:4]:
            _, ts, seconds, nanos, _, message_id, *_ = row
            yield f"instant {message_id}: kept is {seconds} s {nanos} ns, should be {ts}"


def _instant(ts: str) -> tuple[int, int] | None:
    try:
        return Timestamp.parse(ts).instant
    except PydanticCustomError:
        return None


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
    yield from (f"tombstones {one}: is stored, and removed as well" for one in both[:_MAX_SHOWN])
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
        except Diverged:
            yield f"consumers {consumer.name}: no row proves its position {consumer.position}"
        except Pruned:
            pass  # messages after it were removed by age


def _described(name: str, rows: Sequence[tuple[object, object, object]]) -> Iterator[str]:
    for row, kept, made in rows[:_MAX_SHOWN]:
        yield f"{name} {row}: kept is {_shown(kept)}, should be {_shown(made)}"
    if len(rows) > _MAX_SHOWN:
        yield f"{name}: {len(rows)} differ in all"


def _shown(value: object) -> object:
    return "nothing" if value is None else value


def _search_index(db: LockedConnection) -> Iterator[str]:
    try:
        while index_messages(db, max_rows=_INDEX_ROWS):
            pass
        db.execute(_CHECK_INDEX)
    except sqlite3.DatabaseError as error:
        if primary_result_code(error) != sqlite3.SQLITE_CORRUPT:
            raise
        yield f"messages_search: the index is not that of the texts ({error})"


def check_file(db: Connection) -> Iterator[str]:
    """Yield what SQLite's own checks of the file find."""
    # SQLite does not look for unused pages if the first table in its list has the root page 0,
    # which means to it that only a part should be checked. Views and virtual tables have it.
    db.executescript(_FORGET_TABLES_WITHOUT_PAGES)
    try:
        for (text,) in db.execute(f"PRAGMA integrity_check({_MAX_SHOWN})"):
            for line in text.splitlines():
                if line != "ok" and not line.startswith("***"):
                    yield f"integrity_check: {line}"
    finally:
        db.execute("ROLLBACK")
    for table, row_id, *_ in db.execute("PRAGMA foreign_key_check"):
        yield f"foreign_key_check: {table} {row_id}"


# Those of each row run in a thread of their own; only the second row writes.
CHECKS: Sequence[Sequence[Check]] = (
    (foreign_objects, wrong_values, _derived),
    (_search_index, check_file),
)


class DamagedError(Exception):
    """A file failed its check: one line for each thing that is not as it should be."""

    def __init__(self, differences: list[str]) -> None:
        super().__init__(f"{len(differences)} differences")
        self.differences = differences


def verify(database: Database, scratch: Path | None = None) -> int:
    """Check a copy of the database as it is at one moment; return how many messages it has.

    Why a copy: FTS5's own check is a write, and deliveries would wait for it, 10 s per million
    messages; and while a read lasts, the WAL grows. The copy is made in the folder `scratch`, by
    default beside the database.

    Raises:
        DamagedError: something differs.
        OSError: there is no space for a copy.
    """
    folder = scratch or database.path.parent
    files.check_space_for_copy(sum(database.sizes().values()), folder)
    with copies.temporary_file(folder / (database.path.name + files.VERIFIED)) as (path, _):
        with database.reader() as live:
            check_schema(live)
            copies.copy_moment(live, path)
        return check_copy(path)


def check_copy(path: Path, progress: copies.Progress = copies.no_progress) -> int:
    """Check the file at `path`, which nobody else uses; return how many messages it has.

    The file changes: all of its messages are indexed.

    Raises:
        DamagedError: something differs.
    """
    with copies.naming_full_disk(path), ExitStack() as opened:
        # In WAL mode one can read while another writes.
        connections = [
            opened.enter_context(closing(open_unshared(path, "journal_mode = WAL"))) for _ in CHECKS
        ]
        counted, _ = connections
        opened.enter_context(read_transaction(counted))  # without what is indexed from now on
        check_schema(counted)
        messages: int = counted.execute("SELECT count(*) FROM messages").fetchone()[0]
        work = [partial(run_checks, checks) for checks in CHECKS]
        found = run_in_parallel(work, connections, progress)
    if differences := list(chain.from_iterable(found)):
        raise DamagedError(differences)
    return messages


def run_checks(checks: Sequence[Check], db: LockedConnection) -> list[str]:
    """Return the lines of all `checks`, one after the other."""
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
