"""Dead letters: kept in the commit of the messages, up to a limit, and removed like these."""

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.conftest import Api
from tests.intake.commits import Record, message, stored
from tests.maintenance.test_compaction import once_meanwhile
from tests.maintenance.test_removal import one_pass
from tests.store.files import NUMBER, arrived, count, differences, traces
from webhook_api.errors import Unavailable
from webhook_api.intake.group_commit import GroupCommit
from webhook_api.maintenance.background_tasks import Retention
from webhook_api.maintenance.compaction import compact
from webhook_api.store import dead_letters
from webhook_api.store.connections import connect
from webhook_api.store.database import Database
from webhook_api.store.dead_letters import (
    DeadLetter,
    insert_dead_letters,
    remove_dead_letters,
    select_dead_letters,
)
from webhook_api.store.lock import unshared
from webhook_api.store.messages import of_number
from webhook_api.store.writer import Writer
from webhook_api.timestamps import now_as_text

DIGITS = NUMBER[1:]


def a_letter(body: bytes = b"{}", **fields: Any) -> DeadLetter:
    headers = {"content-type": "application/json"}
    return DeadLetter("meta", "no id", headers, body, now_as_text())._replace(**fields)


def keep(path: Path, *letters: DeadLetter) -> list[int]:
    with closing(unshared(connect(path, "rw", timeout_s=5))) as db:
        return insert_dead_letters(db, letters)


def bodies(path: Path) -> list[bytes]:
    with closing(sqlite3.connect(path)) as db:
        return [body for (body,) in db.execute("SELECT body FROM dead_letters ORDER BY id")]


def test_messages_and_dead_letters_of_a_delivery_are_one_commit(
    commits: GroupCommit, record: Record, database: Database
) -> None:
    results, numbers = commits.store_all([message()], [a_letter(), a_letter(b"\xff\0")])
    _, more = commits.store_all([], [a_letter(b"x")])

    assert [one.created for one in results] == [True]
    assert (numbers, more) == ([1, 2], [3])
    assert bodies(database.path) == [b"{}", b"\xff\0", b"x"]
    assert record.batches == [1, 0]
    with closing(unshared(connect(database.path, "rw", timeout_s=5))) as db:
        remove_dead_letters(db, [2, 3])
    assert keep(database.path, a_letter()) == [4]  # no number is used twice
    assert differences(database.path) == []


@pytest.mark.parametrize(("limit", "value"), [("MAX_DEAD_LETTERS", 2), ("MAX_DEAD_BYTES", 7)])
def test_when_there_are_too_many_nothing_of_the_delivery_is_stored(
    commits: GroupCommit,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
    limit: str,
    value: int,
) -> None:
    monkeypatch.setattr(dead_letters, limit, value)
    commits.store_all([], [a_letter(b"123"), a_letter(b"456")])

    with pytest.raises(Unavailable, match="too many dead letters"):
        commits.store_all([message()], [a_letter(b"78")])

    assert stored(database) == []
    assert bodies(database.path) == [b"123", b"456"]
    commits.store([message()])
    assert stored(database) == ["m1"]


@pytest.mark.parametrize(
    ("body", "has_it"),
    [
        (b'{"from":"%b"}' % DIGITS.encode(), True),
        (b"From=whatsapp%%3A%%2B%b&To=%%2B1" % DIGITS.encode(), True),
        (f"({DIGITS[:3]}) {DIGITS[3:6]}\u2011{DIGITS[6:]}".encode(), True),
        (b"7%b" % DIGITS.encode(), False),
        (b"%b0" % DIGITS.encode(), False),
        (DIGITS[:-1].encode(), False),
    ],
)
def test_forget_removes_those_with_the_number(api: Api, body: bytes, has_it: bool) -> None:
    keep(api.path, a_letter(body), a_letter(b"other"))

    dry = api.run("forget", NUMBER, "--dry-run").stdout
    first = api.run("forget", NUMBER).stdout.splitlines()[0]

    counted = " and 1 dead letters" if has_it else ""
    assert dry == f"0 messages{counted} would be removed\n"
    assert first == f"0 messages{counted} removed"
    assert bodies(api.path) == ([b"other"] if has_it else [body, b"other"])
    assert differences(api.path) == []


@pytest.mark.parametrize(
    ("address", "body"),
    [
        (NUMBER, "".join(f"\\u{ord(digit):04x}" for digit in DIGITS)),
        (NUMBER, json.dumps(json.dumps(f"{DIGITS[:3]}\u2011{DIGITS[3:]}"))),
        (NUMBER, "".join(f"%{ord(digit):02X}" for digit in DIGITS)),
        ("José", json.dumps({"from": "José"})),
        ("José", "From=Jos%C3%A9"),
        ("José 😀", json.dumps({"from": "José 😀"})),
        ("José 😀", urlencode({"From": "José 😀"})),
        ('J"o', json.dumps({"from": 'J"o'})),
    ],
)
def test_an_address_is_found_however_it_is_escaped(
    database: Database, address: str, body: str
) -> None:
    keep(database.path, a_letter(body.encode()), a_letter(b"%zz \\u12 \\ud83d"))

    with closing(connect(database.path, "ro", timeout_s=5)) as db:
        assert select_dead_letters(db, of_number(address)) == [1]


@pytest.mark.parametrize("part", ["\\", "4\u00a0", f"{DIGITS[:3]}\u00a0", "%5c", " "])
def test_a_body_of_any_kind_is_searched_in_one_pass(api: Api, part: str) -> None:
    long = f"{DIGITS[:2]}{part[-1] * 100}{part * (200_000 // len(part))}"
    keep(api.config.database_path, a_letter(long.encode()), a_letter(DIGITS.encode()))

    assert "and 1 dead letters" in api.run("forget", NUMBER).stdout


def test_dead_letters_that_come_while_a_number_is_forgotten(database: Database) -> None:
    path = database.path
    keep(path, a_letter(DIGITS.encode()), a_letter(b"a"))

    def arrive() -> None:
        keep(path, a_letter(b"b"), a_letter(b"x" + DIGITS.encode()))

    done = compact(database, of_number(NUMBER), once_meanwhile(arrive))

    assert done.removed_letters == 2
    assert bodies(path) == [b"a", b"b"]
    assert traces(path.parent) == []
    assert keep(path, a_letter()) == [5]
    assert differences(path) == []


OLD = "2020-01-01T00:00:00.000Z"


def retain(database: Database) -> None:
    arrived(database.path, days_ago=2, count=30)
    writer = Writer(database)
    one_pass(Retention(database, writer, days=1, every_s=1000))
    writer.close(timeout_s=1)
    with closing(sqlite3.connect(database.path)) as db:
        assert count(db) == 0


def prune(*more: str) -> Callable[[Api, Database], None]:
    def do(api: Api, _database: Database) -> None:
        assert "and 20 dead letters" in api.run("prune", "--older-than", "1d", "--dry-run").stdout
        assert "and 20 dead letters" in api.run("prune", "--older-than", "1d", *more).stdout

    return do


@pytest.mark.parametrize(
    "act", [lambda _api, database: retain(database), prune(), prune("--compact")],
    ids=["retention", "prune", "prune --compact"],
)  # fmt: skip
def test_old_ones_are_removed_like_messages(api: Api, act: Callable[[Api, Database], None]) -> None:
    keep(api.path, *[a_letter(created_at=OLD)] * 20, a_letter(b"new"))

    with closing(Database(api.path)) as database:
        act(api, database)

    assert bodies(api.path) == [b"new"]
    assert differences(api.path) == []
