"""The schema's version, and the numbered migrations that lead to it."""

import sqlite3
from importlib import resources

from webhook_api.errors import SchemaError
from webhook_api.store.header import APPLICATION_ID
from webhook_api.store.indexing import index_messages

# At a start, few rows are not indexed yet, unless a migration made the index empty.
_INDEX_AT_ONCE = 10_000


def _migrations() -> list[str]:
    folder = resources.files(__package__) / "migrations"
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".sql")), key=str)
    return [file.read_text(encoding="utf-8") for file in files]


MIGRATIONS = _migrations()
SCHEMA_VERSION = len(MIGRATIONS)


def schema_version(connection: sqlite3.Connection) -> int:
    """Return how many migrations were applied to the file (`PRAGMA user_version`)."""
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return version


def check_schema(connection: sqlite3.Connection) -> None:
    """Check that the file has the schema that this code expects.

    Raises:
        SchemaError: it has another version, or the table `messages` is missing.
        sqlite3.Error: it cannot be read.
    """
    version = schema_version(connection)
    if version != SCHEMA_VERSION:
        raise SchemaError(f"schema version is {version}, expected is {SCHEMA_VERSION}")
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'messages'").fetchone():
        raise SchemaError("the table messages is missing")


def bytes_to_migrate(connection: sqlite3.Connection) -> int:
    """Return about how many bytes `migrate` needs on the disk, 0 for a file that is up to date."""
    version = schema_version(connection)
    if not 0 < version < SCHEMA_VERSION:
        return 0
    pages: int = connection.execute("PRAGMA page_count").fetchone()[0]
    page_size: int = connection.execute("PRAGMA page_size").fetchone()[0]
    # From version 1 it was 0.37 to 0.44 of the file. Step 8 writes the rows of providers again.
    return pages * page_size // 2


def migrate(connection: sqlite3.Connection, *, index_at_once: int = _INDEX_AT_ONCE) -> None:
    """Bring the file up to `SCHEMA_VERSION`: each migration is one transaction.

    Then index the rows that are not indexed, if there are `index_at_once` or more. If this is
    stopped, the next start goes on with it. The caller holds the write lock. A file that is refused
    is not changed.

    Raises:
        SchemaError: the file is newer than this code, or is another program's database.
    """
    version = schema_version(connection)
    empty = not connection.execute("SELECT 1 FROM sqlite_master").fetchone()
    application_id = connection.execute("PRAGMA application_id").fetchone()[0]
    if application_id != APPLICATION_ID and not (version == application_id == 0 and empty):
        raise SchemaError("the file is a database, but not one of this service")
    if version > SCHEMA_VERSION:
        raise SchemaError(
            f"schema version is {version}, this code knows up to {SCHEMA_VERSION}: "
            "the file was written by a newer version of the service"
        )
    if version < SCHEMA_VERSION:
        _apply(connection, version)
    while _unindexed(connection, index_at_once) == index_at_once:
        index_messages(connection, most=index_at_once)


def _apply(connection: sqlite3.Connection, version: int) -> None:
    # WAL mode stays set in the file, and cannot be set inside a transaction.
    connection.execute("PRAGMA journal_mode = WAL")
    for number, script in enumerate(MIGRATIONS[version:], start=version + 1):
        connection.executescript(
            f"BEGIN IMMEDIATE;\n{script}\nPRAGMA application_id = {APPLICATION_ID};\n"
            f"PRAGMA user_version = {number};\nCOMMIT;"
        )


def _unindexed(connection: sqlite3.Connection, most: int) -> int:
    """Return how many rows are not indexed yet, `most` at most."""
    count: int = connection.execute(
        "SELECT count(*) FROM (SELECT 1 FROM messages"
        " WHERE id > (SELECT indexed FROM totals) LIMIT ?)",
        [most],
    ).fetchone()[0]
    return count
