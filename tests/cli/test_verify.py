"""`flask --app wsgi verify`: it names what differs from the messages."""

import sqlite3
from pathlib import Path

import pytest

from tests.builders import a_message
from tests.cli.running import ODD_TEXTS, command, some_messages
from tests.conftest import Api
from tests.serving import wait_until
from tests.store.files import fill, not_empty
from webhook_api.config import Config
from webhook_api.maintenance.verify import TABLES
from webhook_api.store.copies import remove_leftovers
from webhook_api.store.database import Database
from webhook_api.store.messages import EVERYTHING, Selection, of_number, remove_messages


def test_verify_finds_nothing_in_what_the_service_wrote(api: Api) -> None:
    for number, text in enumerate(ODD_TEXTS):
        api.post(a_message(message_id=f"{number}", text=text, sender=f"+{number % 3}"))
    api.run("import", "-", stdin=some_messages(50))
    api.post(a_message(message_id="not yet indexed", ts="0001-01-01T00:00:00.000000001Z"))
    api.damage("DELETE FROM messages WHERE id % 5 = 0")

    result = api.run("verify")

    assert (result.stdout, result.exit_code) == (
        f"{api.path}: 47 messages, nothing differs\n",
        0,
    )
    assert [file.name for file in api.path.parent.glob("*verify*")] == []


@pytest.mark.parametrize(
    ("sql", "named"),
    [
        ("UPDATE totals SET messages = 9", ["totals messages: kept is 9, should be 100"]),
        ("UPDATE totals SET senders = 8", ["totals senders: kept is 8, should be 7"]),
        ("UPDATE totals SET indexed = 101", ["totals indexed: kept is 101, should be 100"]),
        ("UPDATE senders SET messages = 1 WHERE from_msisdn = '+3'",
         ["senders +3: kept is 1, should be 14"]),
        ("INSERT INTO senders VALUES ('+99', 0)",
         ["totals senders: kept is 8, should be 7", "senders +99: kept is 0, should be nothing"]),
        ("DELETE FROM periods WHERE length = 86400",
         ["periods 86400/1736899200: kept is nothing, should be 100"]),
        ("UPDATE sender_periods SET messages = 1 WHERE from_msisdn = '+3'",
         ["sender_periods 1656/+3: kept is 1, should be 14"]),
        ("UPDATE characters SET messages = 8 WHERE character = 'h'",
         ["characters 'h': kept is 8, should be 100"]),
        ("INSERT INTO characters VALUES ('z', 0), ('y', 1)",
         ["characters 'y': kept is 1, should be 0"]),
        ("DROP TRIGGER count_message", ["schema: trigger count_message is missing"]),
        ("INSERT INTO messages_search (messages_search, rowid, body)"
         " SELECT 'delete', id, body FROM searchable WHERE id = 7",
         ["messages_search: the index is not that of the texts"]),
        ("DROP TRIGGER messages_are_final; UPDATE messages SET nanos = 5 WHERE id = 1",
         ["schema: trigger messages_are_final is missing",
          "instant m0: kept is 1736899200 s 5 ns, should be 2025-01-15T00:00:00Z"]),
        ("PRAGMA writable_schema = ON;"
         " DELETE FROM sqlite_master WHERE name = 'senders_by_messages'",
         ["schema: index senders_by_messages is missing", "integrity_check: Page"]),
    ],
)  # fmt: skip
def test_verify_names_what_differs(api: Api, sql: str, named: list[str]) -> None:
    api.run("import", "-", stdin=some_messages(100))
    api.damage(sql)

    result = api.run("verify")

    lines = result.stdout.splitlines()
    assert result.exit_code == 1
    assert len(lines) == len(named)
    for line, start in zip(lines, named, strict=True):
        assert line.startswith(start)


def test_verify_shows_the_first_of_many_differences_and_how_many_there_are(api: Api) -> None:
    api.run("import", "-", stdin=some_messages(100))
    api.damage("UPDATE periods SET messages = messages + 1")

    lines = api.run("verify").stdout.splitlines()

    assert len(lines) == 11
    assert lines[-1] == "periods: 50 differ in all"


def test_verify_needs_no_write_lock(api: Api) -> None:
    api.run("import", "-", stdin=some_messages(10))
    other = sqlite3.connect(api.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    with Database(api.path).write_lock():
        result = api.run("verify")

    other.close()
    assert result.exit_code == 0


@pytest.mark.usefixtures("app")
def test_the_copy_of_a_killed_verify_is_a_leftover_and_that_of_a_running_one_is_not(
    config: Config,
) -> None:
    fill(config.database_path, 20_000)
    folder = config.database_path.parent

    def copies() -> set[Path]:
        return not_empty(folder, "app.db.verifying.*.partial")

    with command(config.database_path, "verify") as killed:
        wait_until(lambda: bool(copies()))
        killed.kill()
    left = copies()
    with command(config.database_path, "verify") as running:
        wait_until(lambda: bool(copies() - left))
        remove_leftovers(config.database_path)
        remaining = copies()
        _, stderr = running.communicate()

    assert (len(left), len(remaining)) == (1, 1)
    assert (running.returncode, stderr) == (0, "")
    assert list(folder.glob("*verify*")) == []


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({}, None),
        ({"name": "'No name'"}, "consumers: name cannot be used"),
        ({"id": "-1"}, "consumers: id cannot be used"),
        ({"id": "101"}, "consumers c: no row proves its position 101."),
        ({"digits": "'aaaaaaa1'"}, "consumers: digits cannot be used"),
        ({"digits": "'aaaaaaaa'"}, "consumers c: no row proves its position 50.aaaaaaaa"),
        ({"missed": "-1"}, "consumers: missed cannot be used"),
    ],
)
def test_verify_checks_where_consumers_are(
    api: Api, wrong: dict[str, str], named: str | None
) -> None:
    api.run("import", "-", stdin=some_messages(100))
    digits = api.get("/messages", after="start", limit=50)["position"].partition(".")[2]
    values = {"name": "'c'", "id": "50", "digits": f"'{digits}'", "missed": "0"}
    names = ", ".join((values | wrong)[name] for name in values)
    api.damage(f"INSERT INTO consumers VALUES ({names}, '2025-01-15T10:00:00.000Z')")

    result = api.run("verify")

    assert result.exit_code == (1 if named else 0)
    assert named is None or result.stdout.startswith(named)


@pytest.mark.parametrize("chosen", [EVERYTHING, of_number("+0")], ids=["by age", "of a number"])
def test_verify_knows_that_the_message_at_a_position_may_be_removed(
    api: Api, chosen: Selection
) -> None:
    api.run("import", "-", stdin=some_messages(100))
    read = api.get("/messages", after="start", limit=50)["data"]
    for message in (read[0], read[49]):  # both are from +0
        row_id, _, digits = message["position"].partition(".")
        api.writer.execute(
            "INSERT INTO consumers VALUES (?, ?, ?, 0, '2025-01-15T10:00:00.000Z')",
            [f"c{row_id}", row_id, digits],
        )

    assert remove_messages(api.writer, [1, 50], chosen) == 2

    assert api.run("verify").exit_code == 0


def test_a_restore_copies_each_column_that_is_not_calculated(database: Database) -> None:
    calculated = {
        "messages": {"folded"},
        "totals": {
            "only_row", "messages", "senders", "indexed", "probes", "dead_letters", "dead_bytes",
        },
    }  # fmt: skip
    with database.reader() as db:
        columns_of = {
            table: {column for _, column, *_ in db.execute(f"PRAGMA table_info({table})")}
            for table in TABLES
        }
    for table, columns in columns_of.items():
        assert columns - TABLES[table].keys() == calculated.get(table, set()), table
