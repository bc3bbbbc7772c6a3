"""The schema: how a file gets it, also in several processes at once, and which are refused."""

import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from importlib import resources
from pathlib import Path

import pytest

from tests.builders import a_message
from tests.conftest import Post, Rows, Store
from tests.dying import prepare
from tests.forks import Forked
from webhook_api.config import Config
from webhook_api.errors import Unavailable
from webhook_api.maintenance.verify import verify
from webhook_api.start import StartError, prepare_database, prepare_if_possible
from webhook_api.store.connections import Connection, connect
from webhook_api.store.database import Database
from webhook_api.store.files import APPLICATION_ID
from webhook_api.store.lock import unshared
from webhook_api.store.schema import (
    MIGRATIONS,
    SCHEMA_VERSION,
    check_schema,
    migrate,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "app.db"


@pytest.fixture
def schema_of() -> Callable[[Path], list[tuple[str, str]]]:
    def read(path: Path) -> list[tuple[str, str]]:
        with closing(sqlite3.connect(path)) as db:
            return db.execute("SELECT name, sql FROM sqlite_master ORDER BY name").fetchall()

    return read


def test_a_fresh_file_gets_the_schema_and_its_number(path: Path) -> None:
    Database(path).prepare(create=True)

    with closing(connect(path, "ro", timeout_s=0)) as db:
        check_schema(db)
        assert db.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
        assert db.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert db.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_the_table_has_the_specifications_columns(rows: Rows) -> None:
    columns = {
        name: (type_, bool(required))
        for _, name, type_, required, _, _ in rows("PRAGMA table_info(messages)")
    }

    assert {name: columns[name] for name in list(columns)[1:7]} == {
        "message_id": ("TEXT", True),
        "from_msisdn": ("TEXT", True),
        "to_msisdn": ("TEXT", True),
        "ts": ("TEXT", True),
        "text": ("TEXT", False),
        "created_at": ("TEXT", True),
    }


def test_a_message_id_is_unique_by_the_databases_own_rule(
    post_signed: Post, writer: Connection
) -> None:
    post_signed(a_message())

    with pytest.raises(sqlite3.IntegrityError, match=r"UNIQUE .* messages.message_id"):
        writer.execute(
            "INSERT INTO messages"
            " (message_id, from_msisdn, to_msisdn, ts, created_at, seconds, nanos)"
            " VALUES ('m1', '+1', '+2', '', '', 0, 0)"
        )


def test_a_row_is_never_changed(post_signed: Post, writer: Connection) -> None:
    post_signed(a_message())

    with pytest.raises(sqlite3.IntegrityError, match="never changed"):
        writer.execute("UPDATE messages SET text = 'other'")


def test_starting_again_changes_nothing(
    path: Path, schema_of: Callable[[Path], list[tuple[str, str]]]
) -> None:
    database = Database(path)
    database.prepare(create=True)
    schema, content = schema_of(path), path.read_bytes()

    database.prepare(create=True)

    assert schema_of(path) == schema
    assert path.read_bytes() == content


def test_threads_that_start_at_once_make_one_schema(path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: Database(path).prepare(create=True), range(8)))

    with closing(connect(path, "ro", timeout_s=0)) as db:
        assert db.execute("SELECT count(*) FROM totals").fetchone() == (1,)


def test_processes_that_start_at_once_make_one_schema(path: Path) -> None:
    processes = [Forked(prepare, path) for _ in range(6)]

    assert [process.wait(60) for process in processes] == [0] * 6
    with closing(connect(path, "ro", timeout_s=0)) as db:
        check_schema(db)
        assert db.execute("SELECT count(*) FROM totals").fetchone() == (1,)


def test_a_start_goes_on_where_an_earlier_one_was_stopped(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("BEGIN IMMEDIATE")
        db.execute("CREATE TABLE messages (id INTEGER)")  # never committed

    Database(path).prepare(create=True)

    with closing(connect(path, "ro", timeout_s=0)) as db:
        check_schema(db)


@pytest.fixture(
    params=[
        "CREATE TABLE users (id)",
        "CREATE TABLE messages (id)",
        f"CREATE TABLE users (id); PRAGMA user_version = {SCHEMA_VERSION}",
        f"CREATE TABLE messages (id); PRAGMA user_version = {SCHEMA_VERSION}",
        "CREATE TABLE users (id); PRAGMA user_version = -1",
        "PRAGMA user_version = 1",
        "PRAGMA user_version = -1",
        "PRAGMA application_id = 252006673",
    ]
)
def foreign(request: pytest.FixtureRequest, path: Path) -> Path:
    with closing(sqlite3.connect(path)) as db:
        db.executescript(request.param)
    return path


def test_a_database_of_another_program_stops_the_start_and_is_left_as_it_was(foreign: Path) -> None:
    content = foreign.read_bytes()

    with pytest.raises(StartError, match="not one of this service"):
        prepare_database(Database(foreign))
    prepare_if_possible(Database(foreign))

    assert foreign.read_bytes() == content


def test_a_file_of_a_newer_version_stops_the_start_and_is_left_as_it_was(
    path: Path, store: Store
) -> None:
    store(a_message())
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    content = path.read_bytes()

    with pytest.raises(StartError, match="written by a newer version"):
        prepare_database(Database(path))
    prepare_if_possible(Database(path))

    assert path.read_bytes() == content


def test_a_step_that_fails_leaves_the_file_at_the_step_before(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Database(path).prepare(create=True)
    broken = "CREATE TABLE extra (id); CREATE TABLE extra (id);"
    monkeypatch.setattr("webhook_api.store.schema.MIGRATIONS", [*MIGRATIONS, broken])
    monkeypatch.setattr("webhook_api.store.schema.SCHEMA_VERSION", SCHEMA_VERSION + 1)

    with (
        closing(unshared(connect(path, "rw", timeout_s=0))) as db,
        pytest.raises(sqlite3.OperationalError, match="already exists"),
    ):
        migrate(db)

    with closing(connect(path, "ro", timeout_s=0)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
        assert not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'extra'").fetchone()


def test_each_migration_has_the_number_of_the_version_that_it_makes() -> None:
    folder = resources.files("webhook_api.store") / "migrations"

    names = sorted(file.name for file in folder.iterdir() if file.name.endswith(".sql"))

    assert [int(name[:3]) for name in names] == list(range(1, SCHEMA_VERSION + 1))


@pytest.mark.parametrize("old", range(1, SCHEMA_VERSION))
def test_a_new_file_and_one_of_an_older_version_end_in_the_same_schema(
    path: Path, old: int
) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.executescript(
            f"{' '.join(MIGRATIONS[:old])} PRAGMA application_id = {APPLICATION_ID};"
            f"PRAGMA user_version = {old}"
        )
    new = path.with_name("new.db")

    Database(path).prepare()
    Database(new).prepare(create=True)

    objects = "SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY type, name"
    start = (
        "SELECT messages, senders, deletions, indexed, last_deletion, probes, dead_letters,"
        " dead_bytes, length(tombstone_key) FROM totals"
    )
    with closing(sqlite3.connect(path)) as one, closing(sqlite3.connect(new)) as other:
        assert one.execute(objects).fetchall() == other.execute(objects).fetchall()
        assert one.execute(start).fetchall() == other.execute(start).fetchall()


@pytest.mark.parametrize("content", [b"", b"junk" * 5000], ids=["empty", "junk"])
def test_another_file_in_the_place_of_the_database_does_not_cost_its_wal(
    config: Config, post_signed: Post, content: bytes
) -> None:
    post_signed(a_message())
    path = config.database_path
    wal = path.with_name(path.name + "-wal")
    database, log = path.rename(path.with_name("away")), wal.read_bytes()
    path.write_bytes(content)

    lost = Database(path)
    with pytest.raises(sqlite3.DatabaseError, match="not a database"):
        lost.prepare()
    with (
        pytest.raises((Unavailable, sqlite3.DatabaseError), match="not a database"),
        lost.reader(),
    ):
        pass
    assert path.read_bytes() == content
    assert wal.read_bytes() == log
    database.rename(path)
    assert verify(lost).messages == 1
    lost.close()


def test_an_empty_file_at_the_first_start_becomes_the_database(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    path.touch()
    path.with_name("app.db-wal").write_bytes(b"of a lost database")

    database = Database(path)
    database.prepare(create=True)

    assert verify(database) == (0, [])
    assert path.with_name("app.db-wal.orphan").read_bytes() == b"of a lost database"
    database.close()
