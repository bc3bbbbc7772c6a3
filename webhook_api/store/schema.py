"""The schema: `schema.sql` makes a new file; numbered migrations bring an older one up to it."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable

from webhook_api.errors import SchemaError
from webhook_api.store.connections import Connection
from webhook_api.store.files import APPLICATION_ID
from webhook_api.store.indexing import count_unindexed, index_messages, refold
from webhook_api.store.lock import LockedConnection, unshared

# At a start, few rows are not indexed yet, unless a migration made the index empty.
_INDEX_FROM = 10_000

# Of the specification's own table, in the order of a message's fields.
SPECIFIED_COLUMNS = ("message_id", "from_msisdn", "to_msisdn", "ts", "text")

_WRITES_ROWS_UP_TO = 10  # the last step that writes rows or indexes again
_NOT_OURS = "not of this service"
_REFOLDS = "-- refold"  # in a migration: then the folded texts are made again
_OF_LITESTREAM = {  # which makes them where it replicates a database
    f"table {name}": f"{name}: CREATE TABLE {name} {columns}"
    for name, columns in (
        ("_litestream_seq", "(id INTEGER PRIMARY KEY, seq INTEGER)"),
        ("_litestream_lock", "(id INTEGER)"),
    )
}


def _scripts(folder: Traversable) -> list[str]:
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".sql")), key=str)
    return [file.read_text(encoding="utf-8") for file in files]


(SCHEMA,) = _scripts(resources.files(__package__))
MIGRATIONS = _scripts(resources.files(__package__) / "migrations")  # the first: from 0 to 1
SCHEMA_VERSION = len(MIGRATIONS)


def schema_version(connection: sqlite3.Connection) -> int:
    """Return the version of the file's schema (`PRAGMA user_version`); 0 if it has none."""
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return version


def check_schema(connection: sqlite3.Connection) -> None:
    """Check that the file has the version that this code expects, and the table `messages`."""
    version = schema_version(connection)
    if version != SCHEMA_VERSION:
        raise SchemaError(f"schema version is {version}, expected is {SCHEMA_VERSION}")
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'messages'").fetchone():
        raise SchemaError("the table messages is missing")


def has_specified_table(connection: sqlite3.Connection) -> bool:
    """Return whether there is a table `messages` with the columns of the specification."""
    columns = connection.execute("SELECT name FROM pragma_table_info('messages')")
    return {*SPECIFIED_COLUMNS} <= {name for (name,) in columns}


def foreign_objects(connection: sqlite3.Connection) -> Iterator[str]:
    """Yield a line for each object of the schema that is not ours, letter by letter.

    A trigger of somebody else could remove each message that is stored, or copy it. Of FTS5's own
    tables only the names are compared, since the rest depends on SQLite's version.
    """
    yield from (f"schema: {name} is {fault}" for name, fault in _faults(connection))


def _faults(connection: sqlite3.Connection) -> Iterator[tuple[str, str]]:
    """Yield what is not ours, and what is wrong with it."""
    expected = _schema_of(schema_version(connection))
    found = dict(_objects(connection).items() - _OF_LITESTREAM.items())
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            fault = "changed" if name in expected else _NOT_OURS
            yield name, fault if name in found else "missing"
    encoding = connection.execute("PRAGMA encoding").fetchone()[0]
    if encoding != "UTF-8":
        yield "the encoding", f"{encoding}, should be UTF-8"


def _objects(connection: sqlite3.Connection) -> dict[str, str]:
    rows = connection.execute("SELECT type || ' ' || name, sql, tbl_name FROM sqlite_master")
    return {
        name: "" if name.startswith("table messages_search_") else f"{table}: {sql}"
        for name, sql, table in rows
    }


@cache
def _schema_of(version: int) -> dict[str, str]:
    memory = sqlite3.connect(":memory:", isolation_level=None, factory=Connection)
    with closing(unshared(memory)) as fresh:
        if version == SCHEMA_VERSION:
            _run(fresh, SCHEMA, version)
        else:
            for number, script in enumerate(MIGRATIONS[:version], start=1):
                _run(fresh, script, number)
        return _objects(fresh)


def check_objects(connection: sqlite3.Connection) -> None:
    """Check that what our statements meet in the file is ours: no foreign trigger, nothing changed.

    More tables, indexes and views do no harm, so the service runs with them.
    """
    for name, fault in _faults(connection):
        if fault != _NOT_OURS or name.startswith("trigger "):
            raise SchemaError(f"{name} is {fault}")


def bytes_to_migrate(connection: sqlite3.Connection) -> int:
    """Return about how many bytes `migrate` needs on the disk, 0 if it writes no rows."""
    version = schema_version(connection)
    if not 0 < version < _WRITES_ROWS_UP_TO:
        return 0
    pages: int = connection.execute("PRAGMA page_count").fetchone()[0]
    page_size: int = connection.execute("PRAGMA page_size").fetchone()[0]
    # From version 1 it was 0.37 to 0.44 of the file. Step 8 writes the rows of providers again.
    return pages * page_size // 2


def check_version(connection: sqlite3.Connection) -> int:
    """Return the version of the schema, which this code knows; 0 for an empty file.

    Raises:
        SchemaError: the file is newer than this code, or is another program's database.
    """
    version = schema_version(connection)
    empty = not connection.execute("SELECT 1 FROM sqlite_master").fetchone()
    application_id = connection.execute("PRAGMA application_id").fetchone()[0]
    if application_id != APPLICATION_ID and not (version == application_id == 0 and empty):
        advice = ""
        if has_specified_table(connection):
            advice = (
                "; it has the specification's table: set DATABASE_URL to a new file, start, and"
                " store its messages there with flask --app wsgi import --from-sqlite FILE"
            )
        raise SchemaError(f"the file is a database, but not one of this service{advice}")
    if version > SCHEMA_VERSION:
        raise SchemaError(
            f"schema version is {version}, this code knows up to {SCHEMA_VERSION}: "
            "the file was written by a newer version of the service"
        )
    return version


def migrate(connection: LockedConnection, *, index_from: int = _INDEX_FROM) -> None:
    """Make the schema in an empty file, or bring an older one up to `SCHEMA_VERSION`.

    Each step is one transaction. Then index the rows that are not indexed, if there are
    `index_from` or more. If this is stopped, the next start goes on with it. A file that
    is refused is not changed.
    """
    version = check_version(connection)
    if version:
        check_objects(connection)
        for number, script in enumerate(MIGRATIONS[version:], start=version + 1):
            _run(connection, script, number)
    else:
        _run(connection, SCHEMA, SCHEMA_VERSION)
    while count_unindexed(connection, max_rows=index_from) == index_from:
        index_messages(connection, max_rows=index_from)


def _run(connection: LockedConnection, script: str, version: int) -> None:
    """Run `script` and set the version that the file has then, in one transaction."""
    # WAL mode stays set in the file, and cannot be set inside a transaction.
    connection.execute("PRAGMA journal_mode = WAL")
    connection.executescript(f"BEGIN IMMEDIATE;\n{script}")
    if _REFOLDS in script:
        refold(connection)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {version}")
    connection.execute("COMMIT")
