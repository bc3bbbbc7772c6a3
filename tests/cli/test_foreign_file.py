"""A database file that somebody else has made: `restore`, `verify` and a start do not trust it."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.builders import a_message
from tests.conftest import Api
from tests.store.files import differences, ids, removed, stored
from webhook_api.start import StartError, prepare_database
from webhook_api.store.database import Database
from webhook_api.store.schema import MIGRATIONS

NEVER_CHANGED = "DROP TRIGGER messages_are_final;"
AGAIN = f"CREATE TRIGGER {MIGRATIONS[0].split('CREATE TRIGGER ')[1].split('END;')[0]}END;"
REMOVES = "CREATE TRIGGER evil AFTER INSERT ON messages BEGIN DELETE FROM messages; END"
COPIES = (
    "CREATE TABLE aside (a, b); CREATE TRIGGER evil AFTER INSERT ON messages BEGIN"
    " INSERT INTO aside VALUES (new.from_msisdn, new.text); END"
)
NO_MESSAGE = "message_id, from_msisdn, to_msisdn, ts, created_at, seconds, nanos"


def changed(column: str, value: str) -> str:
    return f"{NEVER_CHANGED} UPDATE messages SET {column} = {value}; {AGAIN}"


def put_in_place(file: Path, database: Path) -> None:
    """Do what an operator does without `restore`."""
    file.replace(database)
    for ending in ("-wal", "-shm"):
        database.with_name(database.name + ending).unlink()


# What was done to the file, and what `restore` and `verify` say.
FOREIGN = {
    "a trigger that removes": (REMOVES, ["schema: trigger evil is not of this service"]),
    "a trigger that copies": (
        COPIES,
        ["schema: table aside is not of this service",
         "schema: trigger evil is not of this service"],
    ),
    "a trigger of ours that does more": (
        "DROP TRIGGER count_sender; CREATE TRIGGER count_sender AFTER INSERT ON senders BEGIN"
        " UPDATE totals SET senders = senders + 1; DELETE FROM messages; END",
        ["schema: trigger count_sender is changed"],
    ),
    "planted statistics": (
        "CREATE TABLE t (x); ANALYZE; DROP TABLE t",
        ["schema: table sqlite_stat1 is not of this service"],
    ),
    "an index that sends queries elsewhere": (
        "CREATE INDEX i ON messages (lower(text))", ["schema: index i is not of this service"],
    ),
    "bytes that are not UTF-8": (
        changed("to_msisdn", "CAST(x'2bff' AS TEXT)"),
        ["messages: Could not decode to UTF-8 column 'to_msisdn'"],
    ),
    "no id": (changed("message_id", "''"), ["messages: message_id of row 1 cannot be used"]),
    "a long text": (
        changed("text", "printf('%5000s', 'x'), folded = NULL"),
        ["messages: text of row 1 cannot be used"],
    ),
    "a time of arrival that never comes": (
        changed("created_at", "'z'"), ["messages: created_at of row 1 cannot be used"],
    ),
    "a time that is none": (
        changed("ts", "'2025-02-30T10:00:00Z'"),
        ["instant kept: kept is 1736935200 s 0 ns, should be 2025-02-30T10:00:00Z"],
    ),
    "the last of all ids": (
        changed("id", str(2**63 - 1)), ["messages: id of row 9223372036854775807 cannot be used"],
    ),
    "the last of all ids, as used": (
        f"UPDATE sqlite_sequence SET seq = {2**63 - 1}", ["sqlite_sequence: seq cannot be used"],
    ),
    "a short tombstone": (
        "INSERT INTO tombstones VALUES (x'00')", ["tombstones: digest cannot be used"],
    ),
    "another key": (
        "UPDATE totals SET tombstone_key = x'00'", ["totals: tombstone_key cannot be used"],
    ),
}  # fmt: skip


@pytest.fixture(params=FOREIGN)
def foreign(request: pytest.FixtureRequest, backup: Path) -> tuple[Path, list[str]]:
    """A backup to which something was done, and what has to be said of it."""
    sql, said = FOREIGN[request.param]
    with closing(sqlite3.connect(backup)) as db:
        db.executescript(sql)
    return backup, said


def test_restore_refuses_it(api: Api, foreign: tuple[Path, list[str]]) -> None:
    file, said = foreign

    result = api.run("restore", file)

    told = result.stdout or result.stderr.removeprefix(f"Error: {file}: ").replace(
        "Could", "messages: Could"
    )
    assert (result.exit_code, told.splitlines()) == (1, said)
    assert stored(api.config.database_path) == {"kept", "newer"}


def test_verify_names_it(api: Api, foreign: tuple[Path, list[str]]) -> None:
    file, said = foreign
    put_in_place(file, api.config.database_path)

    result = api.run("verify")

    assert result.exit_code == 1
    assert result.stdout.splitlines()[: len(said)] == said


@pytest.mark.parametrize("sql", [REMOVES, COPIES, "DROP TRIGGER count_message"])
def test_the_service_does_not_write_a_file_with_a_trigger_of_somebody_else(
    backup: Path, api: Api, sql: str
) -> None:
    with closing(sqlite3.connect(backup)) as db:
        db.executescript(sql)
    put_in_place(backup, api.config.database_path)

    assert api.post(a_message(message_id="later")).status_code == 503
    with pytest.raises(StartError, match=r"trigger \w+ is (not of this service|missing)"):
        prepare_database(Database(api.config.database_path))


def test_a_file_in_utf_16_is_refused(api: Api, backup: Path) -> None:
    with closing(sqlite3.connect(backup)) as db, closing(sqlite3.connect(":memory:")) as other:
        other.execute("PRAGMA encoding = 'UTF-16le'")
        for sql in MIGRATIONS:
            other.executescript(sql)
        for pragma in ("application_id", "user_version"):
            (value,) = db.execute(f"PRAGMA {pragma}").fetchone()
            other.execute(f"PRAGMA {pragma} = {value}")
        backup.unlink()
        other.execute("VACUUM INTO ?", [str(backup)])

    result = api.run("restore", backup)

    assert (result.exit_code, result.stdout) == (
        1,
        "schema: the encoding is UTF-16le, should be UTF-8\n",
    )


def test_only_rows_are_taken_from_it(api: Api, backup: Path) -> None:
    """Not what is derived from them: the search index, counts, folded texts, and free pages."""
    with closing(sqlite3.connect(backup)) as db:
        db.executescript(
            changed("folded", "'planted'")
            + "INSERT INTO messages_search (messages_search) VALUES ('delete-all');"
            " UPDATE characters SET messages = 7; DELETE FROM periods; DELETE FROM sender_periods;"
            " PRAGMA secure_delete = OFF; CREATE TABLE secret (x);"
            " INSERT INTO secret VALUES (printf('%9000s', 'left in a free page'));"
            " DROP TABLE secret"
        )
    assert b"left in a free page" in backup.read_bytes()

    assert api.run("restore", backup).exit_code == 0

    assert api.get("/messages", q="planted")["total"] == 0
    assert api.get("/messages", q="first")["total"] == 1
    assert b"left in a free page" not in api.config.database_path.read_bytes()
    assert differences(api.config.database_path) == []


@pytest.mark.parametrize("left", ["one", "none"])
def test_what_is_known_of_removed_messages_comes_with_it(api: Api, backup: Path, left: str) -> None:
    for message_id in ["a", "b"]:
        api.post(a_message(message_id=message_id, sender="+49"))
    api.run("forget", "+49")
    if left == "none":
        api.run("forget", a_message()["from"])
    api.run("backup", backup)

    assert api.run("restore", backup).exit_code == 0
    repeat = api.post(a_message(message_id="a", sender="+49"))
    api.post(a_message(message_id="later"))

    assert repeat.status_code == 200
    assert stored(api.config.database_path) == {"later", *ids(backup)}
    assert removed(api.config.database_path, "a", "b", "c") == {"a", "b"}
    with closing(sqlite3.connect(api.config.database_path)) as db:
        assert db.execute("SELECT max(id) FROM messages").fetchone()[0] >= 5
        assert db.execute("SELECT deletions FROM totals").fetchone()[0] >= 2
    assert differences(api.config.database_path) == []
