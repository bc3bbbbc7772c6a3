"""A file of an older version: it is migrated completely or not at all, with the same answers."""

import errno
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from tests.builders import SECRET, a_message, an_app
from tests.dying import migrate_until, prepare
from tests.forks import Forked, killed
from tests.reading.calculated import in_order, matches
from tests.store.files import differences
from webhook_api import close_app
from webhook_api.config import Config
from webhook_api.models import parse_message
from webhook_api.store import folding
from webhook_api.store.connections import connect
from webhook_api.store.database import Database
from webhook_api.store.files import APPLICATION_ID
from webhook_api.store.folding import folded_form
from webhook_api.store.indexing import index_messages
from webhook_api.store.lock import LockedConnection, unshared
from webhook_api.store.schema import (
    MIGRATIONS,
    SCHEMA_VERSION,
    migrate,
    schema_version,
)

TEXTS = [
    None, "", "a", "ab", "Hello", "ÉCOLE", "école", "ПРИВЕТ", "日本語", "本", "e\u0301", "𐐀𐐨", "😀",
    "İSTANBUL", "cafe\u0301 au lait", "CAFE\u0301", "J\u030c",
    "a\x00b", "tail\x00", "\x01", "x\x01", "\ufffd\ufffe\uffff", "\ufffe", "100% _ \" *", "é" * 40,
]  # fmt: skip
PHRASES = [
    "a", "A", "b", "ab", "l", "lo", "o", "É", "éc", "le", "п", "ет", "日", "日本", "本", "語",
    "\u0301", "𐐨", "😀", "\x00", "\x01", "b\x00", "\ufffd", "\ufffe", "\uffff", "%", "_", '"', "*",
    "hello", "é" * 33, "zz", "istanbul", "café", "cafe\u0301", "ǰ", "i", "e",
]  # fmt: skip
MESSAGES = [
    a_message(
        message_id=f"m{n:02}",
        sender=f"+{n % 4}",
        ts=f"{1900 + 20 * (n // 3)}-0{1 + n % 2}-15T10:{n:02}:00Z",
        text=text,
    )
    for n, text in enumerate(TEXTS)
]
INDEXED = 18  # rows that the old file had in its index


@pytest.fixture(params=[1, 5, 7])
def old(request: pytest.FixtureRequest) -> int:
    """The version of the file."""
    number: int = request.param
    return number


@pytest.fixture
def path(tmp_path: Path, old: int, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of an older version, with rows in its search index and others not yet in it."""
    path = tmp_path / "app.db"
    with closing(unshared(connect(path, "rwc", timeout_s=0))) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.executescript(
            f"BEGIN; {' '.join(MIGRATIONS[:old])} PRAGMA application_id = {APPLICATION_ID};"
            f"PRAGMA user_version = {old}; COMMIT"
        )
        with monkeypatch.context() as patch:
            patch.setattr(folding, "fold", fold_of_version_7)
            insert_old_rows(db)
        if old == 1:
            db.executescript(
                "INSERT INTO messages_search (rowid, body)"
                f" SELECT id, body FROM searchable WHERE id <= {INDEXED};"
                f"UPDATE totals SET indexed = {INDEXED};"
            )
        else:
            index_messages(db, max_rows=INDEXED)
    return path


def fold_of_version_7(text: str) -> str:
    """Each character alone, without composing."""
    forms = [[c.casefold(), c.lower(), c] for c in text]
    return "".join(next(form for form in three if len(form) == 1) for three in forms)


def insert_old_rows(db: LockedConnection, messages: Sequence[object] = MESSAGES) -> None:
    """Store `messages` as a version did that did not know more columns."""
    for message in map(parse_message, messages):
        values = [
            message.message_id, message.from_msisdn, message.to_msisdn, message.ts.text,
            message.text, "2025-01-01T00:00:00.000Z", *message.ts.instant,
            folded_form(message.text),
        ]  # fmt: skip
        db.execute(
            "INSERT INTO messages (message_id, from_msisdn, to_msisdn, ts, text, created_at,"
            " seconds, nanos, folded) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            values,
        )


def version(path: Path) -> int:
    with closing(sqlite3.connect(path)) as db:
        return schema_version(db)


def client_of(path: Path) -> Iterator[FlaskClient]:
    app = an_app(Config(webhook_secret=SECRET, database_path=path, log_level="ERROR"))
    yield app.test_client()
    close_app(app)


@pytest.fixture(params=["nothing", "all"])
def client(path: Path, request: pytest.FixtureRequest) -> Iterator[FlaskClient]:
    """The service on that file, after `request.param` was indexed since the start."""
    clients = client_of(path)
    client = next(clients)
    if request.param == "all":
        with closing(unshared(connect(path, "rw", timeout_s=0))) as db:
            index_messages(db, max_rows=1000)
            assert db.execute("SELECT indexed FROM totals").fetchone() == (len(MESSAGES),)
    yield client
    next(clients, None)


def expected(**wanted: str | None) -> list[dict[str, Any]]:
    filters: dict[str, str | None] = {"from": None, "since": None}
    return [message for message in in_order(MESSAGES) if matches(message, filters | wanted)]


def test_an_old_file_gives_the_same_answers(client: FlaskClient, path: Path) -> None:
    assert version(path) == SCHEMA_VERSION
    for q in PHRASES:
        for filters in [{}, {"from": "+1"}, {"since": "1950-01-01T00:00:00Z"}]:
            reply = client.get("/messages", query_string={"q": q, **filters}).json
            assert reply is not None
            assert reply["data"] == expected(q=q, **filters), (q, filters)
            assert reply["total"] == len(reply["data"])
    for since in ["1900-01-01T00:00:00Z", "1950-01-01T00:00:00Z", "2025-01-01T00:00:00Z"]:
        stats = client.get("/stats", query_string={"since": since}).json
        assert stats is not None
        assert stats["total_messages"] == len(expected(since=since))
    assert differences(path) == []


def test_removals_after_the_migration_leave_everything_exact(
    client: FlaskClient, path: Path
) -> None:
    with closing(unshared(connect(path, "rw", timeout_s=0))) as db:
        db.execute("DELETE FROM messages WHERE id % 3 = 0")
        index_messages(db, max_rows=4)
        db.execute("DELETE FROM messages WHERE id % 3 = 1")

    assert differences(path) == []
    stats = client.get("/stats").json
    assert stats is not None
    assert stats["total_messages"] == len(MESSAGES) // 3


def test_the_ids_of_old_messages_say_who_delivered_them(path: Path) -> None:
    ids = {"meta:1": "meta", "twilio:": "twilio", "standard:x": "standard", "meta;": "webhook"}
    with closing(unshared(connect(path, "rw", timeout_s=0))) as db:
        db.execute("DELETE FROM messages")
        insert_old_rows(db, [a_message(message_id=message_id) for message_id in ids])

    Database(path).prepare()

    with closing(sqlite3.connect(path)) as db:
        assert dict(db.execute("SELECT message_id, provider FROM messages")) == ids
    assert differences(path) == []


@pytest.mark.parametrize(
    ("old", "statement"),
    [
        (1, "DELETE FROM periods"), (1, "CREATE TABLE characters"), (1, "PRAGMA user_version ="),
        (5, "SELECT 86400"), (5, "DROP TABLE old_periods"), (5, "PRAGMA user_version ="),
        (7, "UPDATE messages SET provider"), (7, "CREATE TRIGGER count_dead_letter"),
        (11, "DROP TRIGGER discount_characters"), (11, "CREATE TRIGGER uncount_message"),
    ],
    indirect=["old"],
)  # fmt: skip
def test_a_migration_that_is_killed_leaves_the_old_version(
    path: Path, old: int, statement: str
) -> None:
    killed(migrate_until, path, statement, 10_000)

    assert version(path) == old
    Database(path).prepare()
    assert version(path) == SCHEMA_VERSION
    assert differences(path) == []


@pytest.mark.parametrize("old", [1], indirect=True)
def test_indexing_that_is_killed_goes_on_at_the_next_start(path: Path) -> None:
    killed(migrate_until, path, "UPDATE totals SET indexed = 8", 4)
    assert version(path) == SCHEMA_VERSION
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT indexed FROM totals").fetchone() == (4,)
    assert differences(path) == []

    with closing(unshared(connect(path, "rw", timeout_s=0))) as db:
        migrate(db, index_from=4)

    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT indexed FROM totals").fetchone() == (24,)
    assert differences(path) == []


def test_four_workers_that_start_at_once_migrate_once(path: Path) -> None:
    workers = [Forked(prepare, path) for _ in range(4)]

    assert [worker.wait(60) for worker in workers] == [0, 0, 0, 0]
    assert version(path) == SCHEMA_VERSION
    assert differences(path) == []


def test_without_space_a_start_names_what_is_needed_and_changes_nothing(
    path: Path, old: int
) -> None:
    class Full(Database):
        def free_bytes(self) -> int:
            return 1000

    before = path.read_bytes()

    with pytest.raises(OSError, match=r"needs \d+ bytes of space, 1000 are free") as raised:
        Full(path).prepare()

    assert raised.value.errno == errno.ENOSPC
    assert path.read_bytes() == before
    assert version(path) == old


@pytest.mark.parametrize("old", [11], indirect=True)
def test_a_step_that_writes_no_rows_needs_no_space(path: Path) -> None:
    class Full(Database):
        def free_bytes(self) -> int:
            return 1000

    Full(path).prepare()

    assert version(path) == SCHEMA_VERSION
