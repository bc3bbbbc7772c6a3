"""`flask --app wsgi restore`: another file replaces the database while the service runs."""

import errno
import os
import random
import shutil
import signal
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import pytest
from click.testing import Result
from flask import Flask
from flask.testing import FlaskClient

from tests.builders import a_message
from tests.conftest import Post
from tests.dying import restore_until
from tests.forks import killed
from tests.serving import Load, Server, serving, wait_until
from tests.test_backup import command, fill, ids
from webhook_api.config import Config
from webhook_api.store import replacing
from webhook_api.store import restore as restores
from webhook_api.store.backup import back_up
from webhook_api.store.database import Database
from webhook_api.store.schema import MIGRATIONS, SCHEMA_VERSION
from webhook_api.store.verify import verify

Run = Callable[..., Result]


@pytest.fixture
def run(app: Flask) -> Run:
    def invoke(*args: object, **options: object) -> Result:
        return app.test_cli_runner().invoke(args=[str(arg) for arg in args], **options)

    return invoke


@pytest.fixture
def backup(config: Config, post_signed: Post, tmp_path: Path) -> Path:
    """A backup with one message, `kept`; the database has `newer` as well."""
    post_signed(a_message(message_id="kept", text="first"))
    with closing(Database(config.database_path)) as database:
        back_up(database, tmp_path / "b.db")
    post_signed(a_message(message_id="newer", text="second"))
    return tmp_path / "b.db"


def replaced(database: Path) -> list[Path]:
    return sorted(database.parent.glob("app-replaced-*.db"))


def differences(database: Path) -> list[str]:
    with closing(Database(database)) as opened:
        return verify(opened).differences


def all_ids(database: Path) -> set[str]:
    """The ids in the database and in the files that it replaced."""
    return ids_by_sqlite(database).union(*map(ids, replaced(database)))


def totals(client: FlaskClient) -> tuple[int, int, int]:
    found = json_of(client, "/messages?q=i")
    return json_of(client, "/stats")["total_messages"], found["total"], len(found["data"])


def json_of(client: FlaskClient, path: str) -> Any:
    return client.get(path).json


def test_the_service_goes_on_with_the_file_and_the_old_one_is_kept(
    run: Run, backup: Path, client: FlaskClient, post_signed: Post, config: Config
) -> None:
    post_signed(a_message(message_id="newest", text="third"))
    before = totals(client)

    result = run("restore", backup)

    (kept,) = replaced(config.database_path)
    after = totals(client)
    post_signed(a_message(message_id="later", text="first"))
    assert (result.exit_code, result.stdout, result.stderr) == (
        0,
        f"{config.database_path}: 1 messages, nothing differs\n{kept}: kept\n",
        "",
    )
    assert (before, after, totals(client)) == ((3, 2, 2), (1, 1, 1), (2, 2, 2))
    assert ids(kept) == {"kept", "newer", "newest"}
    assert differences(config.database_path) == []
    assert not kept.with_name(kept.name + "-wal").exists()


def test_a_file_may_come_from_stdin(
    run: Run, backup: Path, client: FlaskClient, config: Config
) -> None:
    assert run("restore", "-", input=backup.read_bytes()).exit_code == 0

    assert json_of(client, "/stats")["total_messages"] == 1


def test_an_older_file_is_brought_up_to_date_in_the_copy_only(
    run: Run, client: FlaskClient, config: Config, tmp_path: Path
) -> None:
    old = tmp_path / "old.db"
    with closing(sqlite3.connect(old)) as connection:
        connection.executescript(
            f"{MIGRATIONS[0]}; PRAGMA application_id = {0x4D536731}; PRAGMA user_version = 1;"
        )
    before = old.read_bytes()

    result = run("restore", old)

    assert (result.exit_code, result.stderr) == (0, "")
    assert client.get("/health/ready").status_code == 200
    assert old.read_bytes() == before


def test_a_file_is_restored_with_the_messages_in_its_wal(
    run: Run, backup: Path, client: FlaskClient, tmp_path: Path, config: Config
) -> None:
    for ending in ("", "-wal"):
        source = config.database_path.with_name(config.database_path.name + ending)
        (tmp_path / f"snapshot.db{ending}").write_bytes(source.read_bytes())
    assert (tmp_path / "snapshot.db-wal").stat().st_size

    assert run("restore", tmp_path / "snapshot.db").exit_code == 0

    assert ids(config.database_path) == {"kept", "newer"}


def _garbage(file: Path) -> None:
    file.write_bytes(random.Random(1).randbytes(100_000))


def _foreign(file: Path) -> None:
    file.unlink()
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("CREATE TABLE letters (x)")


def _newer(file: Path) -> None:
    with closing(sqlite3.connect(file)) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")


def _truncated(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def _one_page_lost(file: Path) -> None:
    with file.open("r+b") as content:
        content.seek(4096)
        content.write(bytes(4096))


@pytest.mark.parametrize(
    ("harm", "complaint"),
    [
        (_garbage, "is no database of this service"),
        (_foreign, "is no database of this service"),
        (lambda file: file.write_bytes(b""), "is no database of this service"),
        (_newer, "written by a newer version of the service"),
        (_truncated, "database disk image is malformed"),
        (_one_page_lost, "database disk image is malformed"),
        (lambda file: file.unlink(), "No such file or directory"),
    ],
)
def test_a_damaged_or_foreign_file_is_refused(
    run: Run, backup: Path, config: Config, harm: Callable[[Path], None], complaint: str
) -> None:
    harm(backup)
    before = {file.name for file in backup.parent.iterdir()}

    result = run("restore", backup)

    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (1, "", 1)
    assert result.stderr.startswith(f"Error: {backup}: ")
    assert complaint in result.stderr
    assert {file.name for file in backup.parent.iterdir()} == before
    assert ids_by_sqlite(config.database_path) == {"kept", "newer"}


def ids_by_sqlite(database: Path) -> set[str]:
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        return {row[0] for row in connection.execute("SELECT message_id FROM messages")}


def test_a_file_whose_counters_are_wrong_is_refused(run: Run, backup: Path) -> None:
    with closing(sqlite3.connect(backup)) as connection, connection:
        connection.execute("UPDATE totals SET messages = 7")

    result = run("restore", backup)

    assert (result.exit_code, result.stdout) == (1, "totals messages: kept is 7, should be 1\n")


@pytest.mark.parametrize("name", ["app.db", "link.db", "hard.db"])
def test_the_database_itself_is_refused(
    run: Run, backup: Path, config: Config, name: str, post_signed: Post
) -> None:
    folder = config.database_path.parent
    (folder / "link.db").symlink_to(config.database_path)
    (folder / "hard.db").hardlink_to(config.database_path)

    result = run("restore", folder / name)

    assert (result.exit_code, result.stderr) == (
        1,
        f"Error: {folder / name}: is the database itself\n",
    )
    assert post_signed(a_message(message_id="m2")).status_code == 200


def test_a_full_disk_leaves_the_database(
    run: Run, backup: Path, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_args: object) -> None:
        error = sqlite3.OperationalError("database or disk is full")
        error.sqlite_errorcode = sqlite3.SQLITE_FULL
        raise error

    monkeypatch.setattr(restores, "check_copy", full)
    result = run("restore", backup)

    assert (result.exit_code, result.stderr) == (
        1,
        f"Error: {config.database_path}.restored.partial: database or disk is full\n",
    )
    assert ids_by_sqlite(config.database_path) == {"kept", "newer"}
    assert not list(backup.parent.glob("*.restored*"))


def test_a_source_without_end_is_refused_at_once(run: Run, config: Config) -> None:
    assert run("restore", "/dev/zero").stderr == (
        "Error: /dev/zero: is no database of this service\n"
    )
    assert not list(config.database_path.parent.glob("*.restored*"))


@pytest.mark.usefixtures("backup")
def test_the_wal_of_a_file_that_was_overwritten_is_kept(
    run: Run, config: Config, backup: Path
) -> None:
    path = config.database_path
    wal = path.with_name(path.name + "-wal").read_bytes()
    path.write_bytes(b"junk" * 5000)

    assert run("restore", backup).exit_code == 0

    [kept] = path.parent.glob("app-replaced-*.db-wal")
    assert kept.read_bytes() == wal


@pytest.mark.parametrize("from_stdin", [True, False])
def test_a_disk_that_fills_up_during_the_copying_is_named(
    run: Run, backup: Path, config: Config, monkeypatch: pytest.MonkeyPatch, from_stdin: bool
) -> None:
    def full(*_files: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(restores, "_copy_bytes", full)
    result = run("restore", "-" if from_stdin else backup)

    assert (result.exit_code, result.stderr) == (
        1,
        f"Error: {config.database_path}.restored.partial: No space left on device\n",
    )
    assert ids_by_sqlite(config.database_path) == {"kept", "newer"}


def test_a_long_read_is_waited_for_and_not_disturbed(
    run: Run, backup: Path, config: Config, post_signed: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replacing, "_READERS_PATIENCE_S", 0.1)
    database = Database(config.database_path)
    with database.reader() as reader:
        reader.execute("BEGIN")
        seen = reader.execute("SELECT count(*) FROM messages").fetchone()
        post_signed(a_message(message_id="after the read began"))
        refused = run("restore", backup)
        assert reader.execute("SELECT count(*) FROM messages").fetchone() == seen
    database.close()

    assert (refused.exit_code, refused.stderr) == (
        1,
        "Error: a long read is under way; try again later\n",
    )
    assert run("restore", backup).exit_code == 0


@pytest.mark.parametrize("from_stdin", [True, False])
def test_even_the_smallest_file_needs_space(
    run: Run, backup: Path, from_stdin: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise SQLite would report an I/O error of the file."""
    nearly_full = SimpleNamespace(free=0 if from_stdin else backup.stat().st_size + 50_000)
    monkeypatch.setattr("shutil.disk_usage", lambda _folder: nearly_full)

    result = run("restore", "-" if from_stdin else backup, input=backup.read_bytes())

    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert "no space for" in result.stderr
    assert not list(backup.parent.glob("*.restored*"))


@pytest.mark.parametrize("lost", [True, False], ids=["lost", "overwritten"])
def test_a_database_that_is_lost_or_damaged_is_replaced_too(
    run: Run, backup: Path, config: Config, post_signed: Post, client: FlaskClient, lost: bool
) -> None:
    if lost:
        config.database_path.unlink()
    else:
        config.database_path.write_bytes(b"x" * 10_000)
    assert post_signed(a_message(message_id="refused")).status_code == 503

    assert run("restore", backup).exit_code == 0

    assert post_signed(a_message(message_id="later")).status_code == 200
    assert json_of(client, "/stats")["total_messages"] == 2
    assert len(replaced(config.database_path)) == (not lost)
    # The log of the old file, which may hold the only copy of something.
    assert len(list(backup.parent.glob("*orphan" if lost else "*replaced*-wal"))) == 1
    assert differences(config.database_path) == []


def dies(database: Path, backup: Path, steps: int, *, keep: bool) -> None:
    killed(partial(restore_until, keep=keep), database, backup, steps)


@pytest.mark.parametrize("steps", range(1, 5))
def test_after_a_kill_between_any_two_steps_the_service_has_one_of_the_files(
    backup: Path, config: Config, post_signed: Post, client: FlaskClient, steps: int
) -> None:
    client.get("/messages")  # a pooled reader

    dies(config.database_path, backup, steps, keep=True)
    first_read = client.get("/messages")
    delivered = post_signed(a_message(message_id="later"))

    assert (first_read.status_code, delivered.status_code) == (200, 200)
    assert len(replaced(config.database_path)) == (steps >= 2)
    now = ids_by_sqlite(config.database_path)
    assert now == ({"kept", "later"} if steps >= 2 else {"kept", "newer", "later"})
    assert all_ids(config.database_path) == {"kept", "newer", "later"}
    assert json_of(client, "/stats")["total_messages"] == len(now)
    assert differences(config.database_path) == []


def test_a_file_that_is_not_kept_is_deleted_with_its_log(
    backup: Path, config: Config, post_signed: Post, client: FlaskClient
) -> None:
    client.get("/messages")  # a pooled reader

    def make(new: Path) -> None:
        shutil.copyfile(backup, new)

    with closing(Database(config.database_path)) as database:
        kept = replacing.replace(database, make, keep=False)

    files = {file.name for file in backup.parent.iterdir()}
    assert kept is None
    assert json_of(client, "/stats")["total_messages"] == 1
    assert post_signed(a_message(message_id="later")).status_code == 200
    assert files == {"b.db", "app.db", "app.db.lock", "app.db.last-backup"}


@pytest.mark.parametrize("steps", range(1, 8))
def test_a_file_that_is_not_kept_is_deleted_whole_after_a_kill_between_any_two_steps(
    backup: Path, config: Config, post_signed: Post, client: FlaskClient, steps: int
) -> None:
    client.get("/messages")

    dies(config.database_path, backup, steps, keep=False)
    delivered = post_signed(a_message(message_id="later"))
    Database(config.database_path).prepare()

    assert delivered.status_code == 200
    now = ids_by_sqlite(config.database_path)
    assert now == ({"kept", "later"} if steps >= 3 else {"kept", "newer", "later"})
    assert not replaced(config.database_path)
    assert not list(backup.parent.glob("*orphan"))
    assert not list(backup.parent.glob("*discarded"))
    assert differences(config.database_path) == []


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGKILL])
def test_a_restore_that_is_stopped_while_it_checks_changes_nothing(
    run: Run, backup: Path, config: Config, signal_number: int
) -> None:
    big = Database(backup.with_name("big.db"))
    big.prepare(create=True)
    fill(big.path, 10_000)

    with command(config.database_path, "restore", big.path) as restore:
        wait_until(lambda: any(f.stat().st_size for f in backup.parent.glob("*.restored.partial")))
        restore.send_signal(signal_number)
        _, stderr = restore.communicate()

    assert restore.returncode == (1 if signal_number == signal.SIGINT else -signal_number)
    assert ids_by_sqlite(config.database_path) == {"kept", "newer"}
    if signal_number == signal.SIGINT:
        assert stderr.strip() == "Aborted!"
        assert not list(backup.parent.glob("*.restored*"))
    assert run("restore", backup).exit_code == 0
    assert not list(backup.parent.glob("*.restored*"))


def test_under_load_every_acknowledged_message_is_in_one_of_the_files(tmp_path: Path) -> None:
    with serving(tmp_path, WEB_CONCURRENCY=2) as server:
        server.deliver_all([f"old-{number}" for number in range(5)])
        with closing(Database(server.database)) as database:
            back_up(database, tmp_path / "b.db")
        with Load(server, "m") as load, Reads(server) as reads:
            for _ in range(2):
                before = len(load.acknowledged)
                wait_until(lambda before=before: len(load.acknowledged) > before + 100)  # type: ignore[misc]
                with command(server.database, "restore", tmp_path / "b.db") as restore:
                    stdout, stderr = restore.communicate()
                assert (restore.returncode, stderr) == (0, "")
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
