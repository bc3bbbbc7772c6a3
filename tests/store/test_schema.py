"""The schema: how a file gets it, also in several processes at once, and which are refused."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.builders import a_message
from tests.conftest import Api
from tests.dying import prepare
from tests.forks import Forked
from tests.serving import in_threads
from webhook_api.errors import Unavailable
from webhook_api.maintenance.verify import verify
from webhook_api.start import StartError, prepare_database, prepare_if_possible
from webhook_api.store.connections import connect
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


def test_a_fresh_file_gets_the_schema_and_its_number(path: Path) -> None:
    Database(path).prepare(create=True)

    with closing(connect(path, "ro", timeout_s=0)) as db:
        check_schema(db)
        assert db.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
        assert db.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert db.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_the_table_has_the_specifications_columns(api: Api) -> None:
    columns = {
        name: (type_, bool(required))
        for _, name, type_, required, _, _ in api.rows("PRAGMA table_info(messages)")
    }

    assert {name: columns[name] for name in list(columns)[1:7]} == {
        "message_id": ("TEXT", True),
        "from_msisdn": ("TEXT", True),
        "to_msisdn": ("TEXT", True),
        "ts": ("TEXT", True),
        "text": ("TEXT", False),
        "created_at": ("TEXT", True),
    }


@pytest.mark.parametrize(
    ("sql", "refused"),
    [
        ("INSERT INTO messages"
         " (message_id, from_msisdn, to_msisdn, ts, created_at, seconds, nanos)"
         " VALUES ('m1', '+1', '+2', '', '', 0, 0)", r"UNIQUE .* messages.message_id"),
        ("UPDATE messages SET text = 'other'", "never changed"),
    ],
    ids=["a second", "a change"],
)  # fmt: skip
def test_a_message_id_is_unique_and_its_row_final_by_the_databases_own_rule(
    api: Api, sql: str, refused: str
) -> None:
    api.store(a_message())

    with pytest.raises(sqlite3.IntegrityError, match=refused):
        api.writer.execute(sql)


def test_starting_again_changes_nothing(path: Path) -> None:
    Database(path).prepare(create=True)
    content = path.read_bytes()

    Database(path).prepare(create=True)

    assert path.read_bytes() == content
    assert not path.with_name("app.db-wal").exists()


@pytest.mark.parametrize("forks", [True, False], ids=["processes", "threads"])
def test_processes_or_threads_that_start_at_once_make_one_schema(path: Path, forks: bool) -> None:
    if forks:
        processes = [Forked(prepare, path) for _ in range(6)]
        assert [process.wait(60) for process in processes] == [0] * 6
    else:
        in_threads(8, lambda: Database(path).prepare(create=True))

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


FOREIGN = "not one of this service"


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("CREATE TABLE users (id)", FOREIGN),
        ("CREATE TABLE messages (id)", FOREIGN),
        (f"CREATE TABLE users (id); PRAGMA user_version = {SCHEMA_VERSION}", FOREIGN),
        (f"CREATE TABLE messages (id); PRAGMA user_version = {SCHEMA_VERSION}", FOREIGN),
        ("CREATE TABLE users (id); PRAGMA user_version = -1", FOREIGN),
        ("PRAGMA user_version = 1", FOREIGN),
        ("PRAGMA user_version = -1", FOREIGN),
        ("PRAGMA application_id = 252006673", FOREIGN),
        (None, "written by a newer version"),
    ],
)
def test_a_file_of_another_program_or_version_stops_the_start_and_is_left_as_it_was(
    path: Path, script: str | None, says: str
) -> None:
    if script is None:
        Database(path).prepare(create=True)
        script = f"PRAGMA user_version = {SCHEMA_VERSION + 1}; PRAGMA wal_checkpoint(TRUNCATE)"
    with closing(sqlite3.connect(path)) as db:
        db.executescript(script)
    content = path.read_bytes()

    with pytest.raises(StartError, match=says):
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
    api: Api, content: bytes
) -> None:
    api.post(a_message())
    path = api.path
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
    assert verify(lost) == 1
    lost.close()


def test_an_empty_file_at_the_first_start_becomes_the_database(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    path.touch()
    path.with_name("app.db-wal").write_bytes(b"of a lost database")

    database = Database(path)
    database.prepare(create=True)

    assert verify(database) == 0
    assert path.with_name("app.db-wal.orphan").read_bytes() == b"of a lost database"
    database.close()
