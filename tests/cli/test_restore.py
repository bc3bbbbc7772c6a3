"""`flask --app wsgi restore`: another file replaces the database while the service runs."""

import sqlite3
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, Self

import pytest

from tests.builders import a_message
from tests.cli.running import command
from tests.conftest import Api
from tests.serving import Load, Server, serving, wait_until
from tests.store.files import all_ids, differences, ids, replaced
from webhook_api.maintenance.backup import back_up
from webhook_api.maintenance.restore import restore
from webhook_api.store.database import Database
from webhook_api.store.schema import MIGRATIONS


def totals(get: Callable[..., Any]) -> tuple[int, int, int]:
    found = get("/messages", q="i")
    return get("/stats")["total_messages"], found["total"], len(found["data"])


def test_the_service_goes_on_with_the_file_and_the_old_one_is_kept(api: Api, backup: Path) -> None:
    api.post(a_message(message_id="newest", text="third"))
    before = totals(api.get)

    result = api.run("restore", backup)

    (kept,) = replaced(api.config.database_path)
    after = totals(api.get)
    api.post(a_message(message_id="later", text="first"))
    assert (result.exit_code, result.stdout, result.stderr) == (
        0,
        f"{api.config.database_path}: 1 messages, nothing differs\n{kept}: kept\n",
        "",
    )
    assert (before, after, totals(api.get)) == ((3, 2, 2), (1, 1, 1), (2, 2, 2))
    assert ids(kept) == {"kept", "newer", "newest"}
    assert differences(api.config.database_path) == []
    assert not kept.with_name(kept.name + "-wal").exists()


def test_a_file_may_come_from_stdin(api: Api, backup: Path) -> None:
    assert api.run("restore", "-", stdin=backup.read_bytes()).exit_code == 0

    assert api.get("/stats")["total_messages"] == 1


def test_an_older_file_is_brought_up_to_date_in_the_copy_only(api: Api, tmp_path: Path) -> None:
    old = tmp_path / "old.db"
    with closing(sqlite3.connect(old)) as connection:
        connection.executescript(
            f"{MIGRATIONS[0]}; PRAGMA application_id = {0x4D536731}; PRAGMA user_version = 1;"
        )
    before = old.read_bytes()

    result = api.run("restore", old)

    assert (result.exit_code, result.stderr) == (0, "")
    assert api.client.get("/health/ready").status_code == 200
    assert old.read_bytes() == before


def test_a_file_is_restored_with_the_messages_in_its_wal(
    api: Api, backup: Path, tmp_path: Path
) -> None:
    for ending in ("", "-wal"):
        source = api.config.database_path.with_name(api.config.database_path.name + ending)
        (tmp_path / f"snapshot.db{ending}").write_bytes(source.read_bytes())
    assert (tmp_path / "snapshot.db-wal").stat().st_size

    assert api.run("restore", tmp_path / "snapshot.db").exit_code == 0

    assert ids(api.config.database_path) == {"kept", "newer"}


@pytest.mark.usefixtures("backup")
def test_the_wal_of_a_file_that_was_overwritten_is_kept(api: Api, backup: Path) -> None:
    path = api.config.database_path
    wal = path.with_name(path.name + "-wal").read_bytes()
    path.write_bytes(b"junk" * 5000)

    assert api.run("restore", backup).exit_code == 0

    [kept] = path.parent.glob("app-replaced-*.db-wal")
    assert kept.read_bytes() == wal


def test_a_long_read_is_waited_for_and_not_disturbed(api: Api, backup: Path) -> None:
    database = Database(api.config.database_path)
    with database.reader() as reader:
        reader.execute("BEGIN")
        seen = reader.execute("SELECT count(*) FROM messages").fetchone()
        api.post(a_message(message_id="after the read began"))
        with pytest.raises(BlockingIOError, match="a long read is still running; try again later"):
            restore(database, backup, timeout_s=0.1)
        assert reader.execute("SELECT count(*) FROM messages").fetchone() == seen
    database.close()

    assert api.run("restore", backup).exit_code == 0


@pytest.mark.parametrize("lost", [True, False], ids=["lost", "overwritten"])
def test_a_database_that_is_lost_or_damaged_is_replaced_too(
    api: Api, backup: Path, lost: bool
) -> None:
    if lost:
        api.config.database_path.unlink()
    else:
        api.config.database_path.write_bytes(b"x" * 10_000)
    assert api.post(a_message(message_id="refused")).status_code == 503

    assert api.run("restore", backup).exit_code == 0

    assert api.post(a_message(message_id="later")).status_code == 200
    assert api.get("/stats")["total_messages"] == 2
    assert len(replaced(api.config.database_path)) == (not lost)
    # The log of the old file, which may hold the only copy of something.
    assert len(list(backup.parent.glob("*orphan" if lost else "*replaced*-wal"))) == 1
    assert differences(api.config.database_path) == []


def test_under_load_every_acknowledged_message_is_in_one_of_the_files(tmp_path: Path) -> None:
    with serving(tmp_path, WEB_CONCURRENCY=2) as server:
        server.deliver_all([f"old-{number}" for number in range(5)])
        with closing(Database(server.database)) as database:
            back_up(database, tmp_path / "b.db")
        with Load(server, "m", threads=4) as load, Reads(server) as reads:
            for _ in range(2):
                before = len(load.acknowledged)
                wait_until(lambda before=before: len(load.acknowledged) > before + 30)  # type: ignore[misc]
                with command(server.database, "restore", tmp_path / "b.db") as restoring:
                    stdout, stderr = restoring.communicate()
                assert (restoring.returncode, stderr) == (0, "")
                assert stdout.startswith(f"{server.database}: 5 messages, nothing differs\n")
        stats = server.get("/stats").json["total_messages"]
        found = server.get("/messages?q=o").json["total"]
        stored = server.ids()

    assert load.failures == []
    assert set(load.statuses) == {200}
    assert set(reads.statuses) == {200}
    assert load.acknowledged <= all_ids(server.database)
    assert (stats, found) == (len(stored), len(stored))
    assert differences(server.database) == []


class Reads:
    """Reads of every kind under load, during a `with` block."""

    def __init__(self, server: Server) -> None:
        self.statuses: Counter[int] = Counter()
        self._server = server
        self._going = True
        self._thread = threading.Thread(target=self._work)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._going = False
        self._thread.join()

    def _work(self) -> None:
        with self._server.client() as client:
            while self._going:
                for path in ("/messages", "/messages?q=o", "/stats", "/health/ready"):
                    self.statuses[client.request("GET", path).status] += 1
