"""`flask --app wsgi import --from-sqlite`: the file of another implementation is brought in."""

import re
import resource
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.builders import a_message
from tests.cli.running import ODD_TEXTS
from tests.conftest import Api
from webhook_api.start import StartError, prepare_database
from webhook_api.store.database import Database

SPECIFIED = """
    CREATE TABLE IF NOT EXISTS messages (
        message_id TEXT PRIMARY KEY,
        from_msisdn TEXT NOT NULL,
        to_msisdn TEXT NOT NULL,
        ts TEXT NOT NULL,
        text TEXT,
        created_at TEXT NOT NULL
    );
"""

MIB = 1024 * 1024

Foreign = Callable[..., Path]


@contextmanager
def most_memory(more_bytes: int) -> Iterator[None]:
    """Let this process have only so much more memory."""
    used = int(re.findall(r"VmData:\s+(\d+) kB", Path("/proc/self/status").read_text())[0]) * 1024
    allowed = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (used + more_bytes, allowed[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, allowed)


@pytest.fixture
def foreign(tmp_path: Path) -> Foreign:
    """Make a file with the specification's table, or another `schema`, and these rows."""

    def make(*rows: tuple[object, ...], schema: str = SPECIFIED) -> Path:
        path = tmp_path / "foreign.db"
        with closing(sqlite3.connect(path)) as db:
            db.executescript(schema)
            for row in rows:
                marks = ", ".join("?" * len(row))
                db.execute(f"INSERT INTO messages VALUES ({marks}, '2025')", row)
            db.commit()
        return path

    return make


def a_row(**fields: object) -> tuple[object, ...]:
    return tuple({**a_message(), **fields}.values())


def test_the_rows_of_the_specifications_table_are_stored_once(api: Api, foreign: Foreign) -> None:
    texts = list(enumerate(ODD_TEXTS))
    file = foreign(*(a_row(message_id=f"m{n}", text=text) for n, text in texts))
    content = file.read_bytes()

    first, second = (api.run("import", "--from-sqlite", file) for _ in range(2))

    count = len(ODD_TEXTS)
    assert first.stdout == f"created {count}, duplicate 0 (with other content 0), bad 0\n"
    assert second.stdout == f"created 0, duplicate {count} (with other content 0), bad 0\n"
    assert (first.exit_code, first.stderr) == (0, "")
    stored = [a_message(message_id=f"m{n}", text=text) for n, text in texts]
    assert api.get("/messages")["data"] == stored
    assert file.read_bytes() == content


def test_what_is_stored_already_is_kept(api: Api, foreign: Foreign) -> None:
    api.post(a_message(text="first"))

    result = api.run("import", "--from-sqlite", foreign(a_row(text="second")))

    assert result.stdout == "created 0, duplicate 1 (with other content 1), bad 0\n"
    assert api.rows("SELECT text FROM messages") == [("first",)]


BAD_ROWS: list[tuple[dict[str, object], str]] = [
    ({"message_id": None}, "message_id: Input should be a valid string"),
    ({"message_id": ""}, "message_id: String should have at least 1 character"),
    ({"from": "919876543210"}, "from: String should match pattern"),
    ({"to": b"\xff"}, "to: Input should be a valid string"),
    ({"ts": "2025-01-15 10:00:00"}, "ts: Input should be a UTC timestamp"),
    ({"ts": 1736935200}, "ts: Input should be a UTC timestamp"),
    ({"text": 5}, "text: Input should be a valid string"),
    ({"text": "x" * 4097}, "text: String should have at most 4096 characters"),
    ({"text": "x" * (2 * 1024 * 1024)}, "string or blob too big"),
]


def test_each_bad_row_is_named_and_the_others_are_stored(api: Api, foreign: Foreign) -> None:
    without_types = SPECIFIED.replace(" TEXT", "")  # so that numbers stay numbers
    bad = [a_row(**{"message_id": f"b{n}", **fields}) for n, (fields, _) in enumerate(BAD_ROWS)]
    file = foreign(a_row(message_id="a"), *bad, a_row(message_id="z"), schema=without_types)
    with closing(sqlite3.connect(file)) as db:  # not UTF-8, in a text
        db.execute("UPDATE messages SET text = CAST(x'68ff' AS TEXT) WHERE message_id = 'b0'")
        db.execute("INSERT INTO messages VALUES ('y', '+1', '+2', '', CAST(x'ff' AS TEXT), '')")
        db.commit()

    result = api.run("import", "--from-sqlite", file)

    assert result.exit_code == 1
    count = len(BAD_ROWS) + 1
    assert result.stdout == f"created 2, duplicate 0 (with other content 0), bad {count}\n"
    lines = result.stderr.splitlines()
    assert [line.partition(": ")[0] for line in lines] == [
        f"row {n}" for n in [*range(2, 2 + len(BAD_ROWS)), len(BAD_ROWS) + 3]
    ]
    for line, (_, reason) in zip(lines, BAD_ROWS, strict=False):
        assert reason in line
    assert "text: Input should be a valid string, unable to parse raw data" in lines[-1]
    assert api.rows("SELECT message_id FROM messages ORDER BY id") == [("a",), ("z",)]


def test_a_dry_run_checks_every_row_and_stores_nothing(api: Api, foreign: Foreign) -> None:
    result = api.run("import", "--dry-run", "--from-sqlite", foreign(a_row(), a_row(message_id="")))

    assert (result.exit_code, result.stdout) == (1, "valid 1, bad 1; nothing was stored\n")
    assert api.rows("SELECT count(*) FROM messages") == [(0,)]


def test_a_file_in_use_by_its_own_program_is_read_with_its_wal(api: Api, foreign: Foreign) -> None:
    file = foreign()
    with closing(sqlite3.connect(file)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("INSERT INTO messages VALUES ('m1', '+1', '+2', '2025-01-15T10:00:00Z', '', '')")
        db.commit()

        result = api.run("import", "--from-sqlite", file)

    assert result.stdout.startswith("created 1,")


def test_a_value_that_is_too_long_is_not_read_into_memory(api: Api, foreign: Foreign) -> None:
    file = foreign(a_row())
    with closing(sqlite3.connect(file)) as db:
        db.execute("UPDATE messages SET text = zeroblob(?)", [100 * MIB])
        db.commit()

    with most_memory(50 * MIB):
        result = api.run("import", "--from-sqlite", file)

    assert result.stdout == "created 0, duplicate 0 (with other content 0), bad 1\n"
    assert result.stderr == "row 1: string or blob too big\n"


@pytest.mark.parametrize(
    ("schema", "complaint"),
    [
        ("CREATE TABLE letters (x)", "has no table messages with the columns message_id, from_"),
        ("CREATE TABLE messages (message_id, ts)", "has no table messages with the columns"),
        ("", "has no table messages"),
    ],
)
def test_a_file_with_another_table_is_refused(
    api: Api, foreign: Foreign, schema: str, complaint: str
) -> None:
    result = api.run("import", "--from-sqlite", foreign(schema=schema))

    assert result.exit_code == 1
    assert complaint in result.stderr
    assert result.stderr.startswith("Error: ")
    assert result.stdout == ""


def test_what_cannot_be_brought_in_is_refused_by_its_name(api: Api, tmp_path: Path) -> None:
    garbage = tmp_path / "garbage.db"
    garbage.write_bytes(b"no database" * 100)

    for file, reason in [
        (garbage, f"{garbage}: file is not a database"),
        (tmp_path / "none.db", f"{tmp_path}/none.db: No such file or directory"),
        (tmp_path, f"{tmp_path}: Is a directory"),
        (tmp_path / "app.db", f"{tmp_path}/app.db: is the database itself"),
        ("-", "--from-sqlite needs the name of a file"),
    ]:
        result = api.run("import", "--from-sqlite", file)
        assert (result.exit_code, result.output) == (1, f"Error: {reason}\n")
    assert not (tmp_path / "none.db").exists()


def test_the_start_on_such_a_file_says_how_to_bring_its_rows_in(foreign: Foreign) -> None:
    file = foreign(a_row())
    content = file.read_bytes()

    with pytest.raises(StartError) as error:
        prepare_database(Database(file))

    assert str(error.value) == (
        f"DATABASE_URL leads to {file}: the file is a database, but not one of this service; it has"
        " the specification's table: set DATABASE_URL to a new file, start, and store its messages"
        " there with flask --app wsgi import --from-sqlite FILE"
    )
    assert file.read_bytes() == content
