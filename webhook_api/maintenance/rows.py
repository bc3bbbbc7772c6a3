"""What a database file holds apart from its schema: rows, of which each value is checked.

A file from elsewhere can hold anything, also what our own code never writes. Nothing else of it is
used, so the counters and the search index of a copy are made from its rows alone.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pydantic_core import PydanticCustomError, from_json

from webhook_api.models import MAX_INTEGER, MAX_TEXT_CHARS, NAME_PATTERN
from webhook_api.store.connections import Connection
from webhook_api.store.counting import PERIODS_S
from webhook_api.store.folding import folded_form
from webhook_api.store.indexing import index_messages
from webhook_api.store.lock import LockedConnection, transaction
from webhook_api.store.messages import DIGEST_BYTES, KEY_BYTES
from webhook_api.timestamps import Timestamp

MAX_SHOWN = 10  # differences of one check
INDEX_ROWS = 10_000
_MAX_NUMBER = 2**62  # far from where SQLite's counting ends

_SERVER_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z")
_DIGITS = re.compile("[a-z2-7]{8}")  # of a position
_DIGITS_OR_NONE = re.compile("(?:[a-z2-7]{8})?")
_CONSUMER_NAME = re.compile(NAME_PATTERN)

# Triggers and indexes that cost less when all rows are there.
_MADE_LATER = """
    SELECT type || ' ' || name, sql FROM sqlite_master
    WHERE name IN ('count_message', 'count_sender') OR (type = 'index' AND sql IS NOT NULL)
"""

# Of a message in a file of version 7 or older, as the migration does it.
_PROVIDER_OF_ID = (
    "CASE WHEN message_id GLOB 'meta:*' THEN 'meta' WHEN message_id GLOB 'twilio:*' THEN 'twilio'"
    " WHEN message_id GLOB 'standard:*' THEN 'standard' ELSE 'webhook' END"
)

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
# What those triggers would have counted.
_COUNTERS = (
    "INSERT INTO senders SELECT from_msisdn, count(*) FROM messages GROUP BY 1",
    f"INSERT INTO periods {COUNTED_PERIODS} SELECT * FROM counted",
    "UPDATE totals SET messages = (SELECT count(*) FROM messages),"
    " senders = (SELECT count(*) FROM senders)",
)

_SET = "INSERT INTO messages_search (messages_search, rank) VALUES (?, ?)"

IsGood = Callable[[Any], bool]


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def _is_text(value: Any) -> bool:
    return value is None or (isinstance(value, str) and len(value) <= MAX_TEXT_CHARS)


def _is_json(value: Any) -> bool:
    if value is None:
        return True
    try:
        from_json(value)
    except (TypeError, ValueError):
        return False
    return isinstance(value, str)


def _is_server_time(value: Any) -> bool:
    return isinstance(value, str) and _SERVER_TIME.fullmatch(value) is not None


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and abs(value) < _MAX_NUMBER


def _is_count(value: Any) -> bool:
    return _is_number(value) and bool(value >= 0)


def _has_form(form: re.Pattern[str]) -> IsGood:
    return lambda value: isinstance(value, str) and form.fullmatch(value) is not None


def _has_bytes(count: int) -> IsGood:
    return lambda value: isinstance(value, bytes) and len(value) == count


# Each table whose rows count, and what a good value of each column is. A table or a column that an
# older file does not have is left out. `_wrong_rows` uses the places of the first six of messages.
_TABLES: Mapping[str, Mapping[str, IsGood]] = {
    "messages": {
        "id": lambda value: _is_number(value) and value > 0,
        "ts": _is_name,
        "seconds": _is_number,
        "nanos": _is_number,
        "text": _is_text,
        "message_id": _is_name,
        "from_msisdn": _is_name,
        "to_msisdn": _is_name,
        "created_at": _is_server_time,
        "provider": _is_name,
        "kind": _is_text,
        "payload": _is_json,
    },
    "dead_letters": {
        "id": lambda value: _is_number(value) and value > 0,
        "provider": _is_name,
        "reason": _is_text,
        "headers": _is_json,
        "body": lambda value: isinstance(value, bytes),
        "created_at": _is_server_time,
    },
    "removed_positions": {"id": _is_count, "digits": _has_form(_DIGITS_OR_NONE)},
    "consumers": {
        "name": _has_form(_CONSUMER_NAME),
        "id": _is_count,
        "digits": _has_form(_DIGITS),
        "missed": _is_count,
        "updated_at": _is_server_time,
    },
    "tombstones": {"digest": _has_bytes(DIGEST_BYTES)},
    "totals": {
        "deletions": _is_number,
        "last_deletion": lambda value: isinstance(value, int),
        "tombstone_key": _has_bytes(KEY_BYTES),
    },
    "sqlite_sequence": {"name": _is_name, "seq": _is_number},
}
# `new` has rows of these: by the first no id is used again, the second has the start of the feed.
_REPLACED = ("sqlite_sequence", "removed_positions")


def wrong_values(db: Connection) -> Iterator[str]:
    """Yield a line for each of the first values that our own code cannot have stored."""
    for table in _TABLES:
        yield from islice(_wrong_rows(db, table), MAX_SHOWN)


def copy_rows(source: Path, new: LockedConnection) -> None:
    """Copy what counts from `source` into `new`, which has our schema and no rows; index it.

    The values are not checked here: if `wrong_values` finds any, `new` is of no use.
    """
    new.create_function("fold", 1, _folded, deterministic=True)
    # One transaction, which need not be undone: if it fails, `new` is deleted.
    new.execute("PRAGMA journal_mode = OFF")
    new.execute("ATTACH ? AS source", [f"file:{quote(str(source))}?mode=ro"])
    with transaction(new):
        later = new.execute(_MADE_LATER).fetchall()
        for name, _ in later:
            new.execute(f"DROP {name}")
        for table in _TABLES:
            columns = ", ".join(_columns(new, table, "source"))
            values = f"SELECT {columns} FROM source.{table}"
            if table == "totals":  # `new` has its only row
                new.execute(f"UPDATE main.totals SET ({columns}) = ({values})")
            elif table == "messages":
                more = {"folded": "fold(CAST(text AS BLOB))"}
                if "provider" not in columns:
                    more["provider"] = _PROVIDER_OF_ID
                values = f"SELECT {columns}, {', '.join(more.values())} FROM source.messages"
                new.execute(f"INSERT INTO main.messages ({columns}, {', '.join(more)}) {values}")
            elif columns:
                if table in _REPLACED:
                    new.execute(f"DELETE FROM main.{table}")
                new.execute(f"INSERT INTO main.{table} ({columns}) {values}")
        for statement in (*_COUNTERS, *(sql for _, sql in later)):
            new.execute(statement)
    new.execute("DETACH source")
    # FTS5 writes fewer and larger parts of its index, in a third of the time.
    new.executemany(_SET, [("hashsize", 64 * 1024 * 1024), ("automerge", 0)])
    index_messages(new, max_rows=MAX_INTEGER)
    new.executemany(_SET, [("hashsize", 1024 * 1024), ("automerge", 4)])  # as usual
    new.execute("PRAGMA journal_mode = WAL")


def _folded(text: bytes | None) -> str | None:
    return None if text is None else folded_form(text.decode(errors="replace"))


def _columns(db: Connection, table: str, schema: str = "main") -> list[str]:
    found = db.execute("SELECT name FROM pragma_table_info(?, ?)", [table, schema])
    there = {name for (name,) in found}
    return [column for column in _TABLES[table] if column in there]


def _wrong_rows(db: Connection, table: str) -> Iterator[str]:
    columns = _columns(db, table)
    if not columns:
        return
    checks = [_TABLES[table][column] for column in columns]
    for row in db.execute(f"SELECT {', '.join(columns)} FROM {table} NOT INDEXED"):
        if not all(is_good(value) for is_good, value in zip(checks, row, strict=True)):
            wrong = [
                column
                for column, is_good, value in zip(columns, checks, row, strict=True)
                if not is_good(value)
            ]
            where = f" of row {row[0]}" if table == "messages" else ""
            yield f"{table}: {', '.join(wrong)}{where} cannot be used"
        elif table == "messages" and _instant(row[1]) != row[2:4]:
            _, ts, seconds, nanos, _, message_id, *_ = row
            yield f"instant {message_id}: kept is {seconds} s {nanos} ns, should be {ts}"


def _instant(ts: str) -> tuple[int, int] | None:
    try:
        return Timestamp.parse(ts).instant
    except PydanticCustomError:
        return None
