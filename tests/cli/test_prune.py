"""`flask --app wsgi prune`: what is old goes, and all counts stay exact."""

import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.builders import a_message, encode
from tests.cli.running import command
from tests.conftest import Api
from tests.forks import Command
from tests.serving import wait_until
from tests.store.files import arrived, differences, removed, stored
from webhook_api.errors import Unavailable
from webhook_api.store.database import Database
from webhook_api.store.indexing import index_messages
from webhook_api.store.writer import Writer


def test_prune_removes_what_is_old_and_leaves_everything_exact(api: Api) -> None:
    arrived(api.config.database_path, days_ago=91, count=30, prefix="old")
    arrived(api.config.database_path, days_ago=89, count=5, prefix="new")
    index_messages(api.writer, max_rows=20)
    assert api.get("/messages", q="hell")["total"] == 35  # which is remembered

    dry = api.run("prune", "--older-than", "90d", "--dry-run")
    assert (dry.exit_code, dry.stdout) == (0, "30 messages would be removed\n")
    assert api.get("/stats")["total_messages"] == 35
    result = api.run("prune", "--older-than", "90d")

    assert (result.exit_code, result.output) == (0, "30 messages removed\n")
    left = {f"new{n}" for n in range(5)}
    assert api.get("/stats")["total_messages"] == 5
    for filters in [{}, {"q": "hell"}, {"q": "h"}, {"since": "2025-01-01T00:00:00Z"}]:
        page = api.get("/messages", **filters)
        assert {message["message_id"] for message in page["data"]} == left
        assert page["total"] == 5
    assert differences(api.config.database_path) == []
    assert api.run("prune", "--older-than", "90d").stdout == "0 messages removed\n"


def test_a_repeat_of_a_removed_message_is_a_duplicate(api: Api, tmp_path: Path) -> None:
    arrived(api.config.database_path, days_ago=2, count=3)
    assert api.run("prune", "--older-than", "36h").stdout == "3 messages removed\n"
    lines = tmp_path / "lines.ndjson"
    payloads = [a_message(message_id=name) for name in ["m0", "x", "m2", "x"]]
    lines.write_bytes(b"\n".join(map(encode, payloads)))

    reply = api.post(a_message(message_id="m1"))
    imported = api.run("import", lines)

    assert (reply.status_code, reply.json) == (200, {"status": "ok"})
    assert imported.stdout == "created 1, duplicate 3 (with other content 0), bad 0\n"
    assert api.scrape()['webhook_requests_total{result="duplicate"}'] == 1
    assert api.rows("SELECT message_id FROM messages") == [("x",)]


@pytest.mark.parametrize("step", ["index_and_checkpoint", "remove"])
def test_a_prune_that_fails_on_its_way_says_how_many_it_has_removed(
    api: Api, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    arrived(api.config.database_path, days_ago=2, count=100)
    done = getattr(Writer, step)

    def fail(*arguments: Any) -> Any:
        if step == "remove" and len(stored(api.config.database_path)) == 100:
            return done(*arguments)
        raise Unavailable("database: the disk is full")

    monkeypatch.setattr(Writer, step, fail)

    result = api.run("prune", "--older-than", "1d")

    assert (result.exit_code, result.stdout) == (1, "stopped; 16 messages removed\n")
    assert result.stderr == f"Error: database {api.config.database_path}: the disk is full\n"
    assert len(stored(api.config.database_path)) == 84


MANY = 2500


@pytest.fixture
def pruning(database: Database) -> Iterator[Command]:
    """A prune of many messages that has removed some of them."""
    arrived(database.path, days_ago=2, count=MANY)
    process = command(database.path, "prune", "--older-than", "1d")
    with closing(sqlite3.connect(database.path)) as db:
        wait_until(lambda: bool(db.execute("SELECT 1 FROM tombstones").fetchone()))
    assert process.poll() is None
    yield process
    process.kill()


def test_ctrl_c_ends_prune_with_one_line_and_what_is_left_is_exact(
    pruning: Command, database: Database
) -> None:
    pruning.send_signal(signal.SIGINT)
    out, err = pruning.communicate(timeout=20)

    left = len(stored(database.path))
    assert (pruning.returncode, out, err) == (130, f"stopped; {MANY - left} messages removed\n", "")
    assert 0 < left < MANY
    assert differences(database.path) == []


def test_a_kill_leaves_each_id_either_stored_or_removed(
    pruning: Command, database: Database
) -> None:
    pruning.kill()
    pruning.wait(20)

    left = stored(database.path)
    gone = removed(database.path, *(f"m{number}" for number in range(MANY)))
    assert left | gone == {f"m{number}" for number in range(MANY)}
    assert not left & gone
    assert differences(database.path) == []


def test_prune_with_compact_gives_the_space_back(api: Api) -> None:
    path = api.config.database_path
    arrived(path, days_ago=2, count=1500, prefix="old")
    arrived(path, days_ago=0, count=5, prefix="new")
    api.run("prune", "--older-than", "20w")  # its end leaves a short WAL
    before = path.stat().st_size

    dry = api.run("prune", "--older-than", "1d", "--compact", "--dry-run")
    result = api.run("prune", "--older-than", "1d", "--compact")

    assert dry.stdout == "1500 messages would be removed\n"
    assert result.stdout.startswith("1500 messages removed\n")
    assert path.stat().st_size < before / 2
    assert api.get("/stats")["total_messages"] == 5
    assert differences(path) == []
