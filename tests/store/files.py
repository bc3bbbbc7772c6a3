"""Database files: filled and looked into, without the service."""

import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.builders import a_message, some_messages
from webhook_api.maintenance.verify import DamagedError, verify
from webhook_api.models import parse_message
from webhook_api.store.connections import connect
from webhook_api.store.database import Database
from webhook_api.store.lock import unshared
from webhook_api.store.messages import insert_messages, older_than, was_removed

NOW = datetime.now(UTC)
# A number that is to be forgotten, and a text with it.
NUMBER = "+4915112345678"
TEXT = "My secret is ☃ snow"
SECRETS = [NUMBER.encode(), b"4915112345678", TEXT.encode(), "☃".encode()]
# A query that only ends when it is interrupted.
ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"


def not_empty(folder: Path, pattern: str) -> set[Path]:
    """Return the files in which something is, of those that are there now."""
    found = set()
    for file in folder.glob(pattern):
        with suppress(FileNotFoundError):
            if file.stat().st_size:
                found.add(file)
    return found


def arrived(database: Path, *, days_ago: float, count: int, prefix: str = "m") -> None:
    """Store `count` messages as if they had arrived some days ago."""
    at = older_than(NOW - timedelta(days=days_ago)).parameters[0]
    with closing(unshared(connect(database, "rw", timeout_s=5))) as db:
        db.execute("PRAGMA synchronous = OFF")
        # Stored, taken out and put back as they were, but for the time: rows are final.
        before = db.execute("SELECT coalesce(max(id), 0) FROM messages").fetchone()[0]
        messages = [m | {"message_id": f"{prefix}{n}"} for n, m in enumerate(some_messages(count))]
        insert_messages(db, [parse_message(message) for message in messages])
        columns = "message_id, from_msisdn, to_msisdn, ts, text, seconds, nanos, folded"
        db.executescript(f"""
            BEGIN;
            CREATE TEMP TABLE kept AS SELECT {columns} FROM messages WHERE id > {before};
            DELETE FROM messages WHERE id > {before};
            INSERT INTO messages ({columns}, created_at) SELECT *, '{at}' FROM kept;
            DROP TABLE kept;
            COMMIT;
        """)


def failing(code: int) -> Callable[..., None]:
    """Return a function that fails as SQLite does, with this code."""

    def fail(*_arguments: object) -> None:
        error = sqlite3.OperationalError("of a test")
        error.sqlite_errorcode = code
        raise error

    return fail


def steps_of(db: sqlite3.Connection, work: Callable[[], object]) -> int:
    """Return how many steps SQLite takes for `work`: its cost, whatever else the machine does."""
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    db.set_progress_handler(count, 1)
    work()
    db.set_progress_handler(None, 1)
    return steps


def differences(path: Path) -> list[str]:
    """What `verify` finds."""
    with closing(Database(path)) as database:
        try:
            verify(database)
        except DamagedError as error:
            return error.differences
    return []


def count(db: sqlite3.Connection) -> int:
    messages: int = db.execute("SELECT messages FROM totals").fetchone()[0]
    return messages


def store(path: Path, *message_ids: str, **fields: object) -> None:
    with closing(unshared(connect(path, "rw", timeout_s=5))) as db:
        messages = [parse_message(a_message(message_id=one, **fields)) for one in message_ids]
        insert_messages(db, messages)


def stored(database: Path) -> set[str]:
    """The `message_id` of every row."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        return {row[0] for row in connection.execute("SELECT message_id FROM messages")}


def removed(path: Path, *message_ids: str) -> set[str]:
    """Those of the ids that have a tombstone."""
    with closing(sqlite3.connect(path)) as db:
        return was_removed(db, message_ids)


def ids(file: Path) -> set[str]:
    """The same of a file that nobody writes to; nothing is created beside it."""
    with closing(sqlite3.connect(f"file:{file}?immutable=1", uri=True)) as connection:
        return {row[0] for row in connection.execute("SELECT message_id FROM messages")}


def replaced(database: Path) -> list[Path]:
    """The files that restores have kept."""
    return sorted(database.parent.glob("app-replaced-*.db"))


def all_ids(database: Path) -> set[str]:
    """The ids in the database and in the files that it replaced."""
    return stored(database).union(*map(ids, replaced(database)))


def fill(database: Path, count: int) -> None:
    """Store many messages that are not indexed, so that checking takes long."""
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute(
            "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < ?)"
            " INSERT INTO messages (message_id, from_msisdn, to_msisdn, ts, text, created_at,"
            " seconds, nanos) SELECT 's' || n, '+' || (n % 99), '+1', '2025-01-15T10:00:00Z',"
            " hex(randomblob(40)), '2025-01-15T10:00:00.000Z', 1736935200, 0 FROM n",
            [count],
        )


def traces(folder: Path) -> list[str]:
    """The files in which the number or its text can be found."""
    return [
        file.name
        for file in sorted(folder.iterdir())
        if file.is_file() and any(secret in file.read_bytes() for secret in SECRETS)
    ]
