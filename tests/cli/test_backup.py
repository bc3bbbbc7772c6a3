"""`flask --app wsgi backup`: a complete copy of one moment or none, while the service runs."""

import re
import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from tests.builders import a_message, samples
from tests.cli.running import Run, command
from tests.conftest import Post
from tests.serving import Load, serving, wait_until
from tests.store.files import fill, ids
from webhook_api.config import Config
from webhook_api.maintenance import backup as backups
from webhook_api.maintenance import verify as verifying
from webhook_api.maintenance.verify import verify
from webhook_api.store.copies import copy_moment, in_place_when_complete
from webhook_api.store.database import Database


def test_a_backup_is_the_whole_state_in_one_file_that_is_checked(
    run: Run, post_signed: Post, client: FlaskClient, tmp_path: Path
) -> None:
    for number in range(3):
        post_signed(a_message(message_id=f"m{number}"))
    folder = tmp_path / "elsewhere"
    folder.mkdir()

    first = run("backup", folder / "b.db")
    post_signed(a_message(message_id="m3"))
    second = run("backup", folder / "b.db")

    assert (first.exit_code, first.stdout, first.stderr) == (
        0,
        f"{folder}/b.db: 3 messages, nothing differs\n",
        "",
    )
    assert second.stdout == f"{folder}/b.db: 4 messages, nothing differs\n"
    assert [file.name for file in folder.iterdir()] == ["b.db"]
    with closing(Database(folder / "b.db")) as copy:
        assert verify(copy).differences == []
    assert ids(folder / "b.db") == {"m0", "m1", "m2", "m3"}


def test_the_metric_names_the_moment_of_the_last_backup(
    run: Run, client: FlaskClient, tmp_path: Path
) -> None:
    name = "last_backup_timestamp_seconds"
    assert name not in samples(client.get("/metrics").text)

    run("backup", tmp_path / "b.db")

    written = (tmp_path / "b.db").stat().st_mtime  # by a clock with ticks of some milliseconds
    assert written - 10 < samples(client.get("/metrics").text)[name] < written + 0.1


def test_a_backup_under_load_has_all_that_was_acknowledged_before(tmp_path: Path) -> None:
    with serving(tmp_path, WEB_CONCURRENCY=2) as server, Load(server, "m") as load:
        wait_until(lambda: len(load.acknowledged) > 100)
        before = set(load.acknowledged)
        with command(server.database, "backup", tmp_path / "b.db") as backup:
            stdout, stderr = backup.communicate()
        after = server.ids() | load.acknowledged

    assert (backup.returncode, stderr) == (0, "")
    assert stdout.endswith(" messages, nothing differs\n")
    assert before <= ids(tmp_path / "b.db") <= after
    assert set(load.statuses) == {200}


def test_dated_backups_are_kept_and_nothing_else_is_removed(
    run: Run, config: Config, tmp_path: Path
) -> None:
    stem = config.database_path.stem
    folder = tmp_path / "backups"
    folder.mkdir()
    old = [f"{stem}-2025010{day}T000000Z.db" for day in (1, 2, 3)]
    others = ["notes", f"{stem}-20250101T000000Z.db.bak", f"{stem}.db", "x-20250101T000000Z.db"]
    for name in old + others:
        (folder / name).touch()

    result = run("backup", "--keep", 2, folder)

    kept = {file.name for file in folder.iterdir()} - set(others)
    assert result.exit_code == 0
    assert result.stdout.splitlines()[1:] == [f"{folder}/{name}: removed" for name in old[:2]]
    assert len(kept) == 2
    assert old[2] in kept
    assert set(others) <= {file.name for file in folder.iterdir()}


def test_backups_dated_in_the_future_do_not_cost_the_one_just_made(
    run: Run, config: Config, tmp_path: Path
) -> None:
    """They were made while the clock was wrong."""
    folder = tmp_path / "backups"
    folder.mkdir()
    future = [f"{config.database_path.stem}-2999010{day}T000000Z.db" for day in (1, 2)]
    for name in future:
        (folder / name).touch()

    result = run("backup", "--keep", 2, folder)

    (made,) = {file.name for file in folder.iterdir()} - set(future)
    assert result.stdout.splitlines() == [
        f"{folder}/{made}: 0 messages, nothing differs",
        f"{folder}/{future[0]}: removed",
    ]


@pytest.mark.parametrize(
    ("destination", "complaint"),
    [
        ("app.db", "is the database itself"),
        ("link.db", "is the database itself"),
        ("hard.db", "is the database itself"),
        ("app.db-wal", "is a file of the database itself"),
        ("app.db-shm", "is a file of the database itself"),
        ("app.db.lock", "is a file of the database itself"),
        ("app.db.restored", "is a file of the database itself"),
        ("app.db.discarded", "is a file of the database itself"),
        ("app.db.compacting", "is a file of the database itself"),
        ("app.db.restored.abcdefgh.partial", "is a file of the database itself"),
        (".", "is a folder: --keep keeps dated backups in it"),
        ("letter.txt", "exists, and is no backup of this service"),
        ("missing/b.db", "No such file or directory"),
    ],
)
def test_a_destination_that_cannot_be_used_is_refused(
    run: Run, post_signed: Post, config: Config, destination: str, complaint: str
) -> None:
    post_signed(a_message())
    folder = config.database_path.parent
    (folder / "link.db").symlink_to(config.database_path)
    (folder / "hard.db").hardlink_to(config.database_path)
    (folder / "letter.txt").write_text("Dear reader")
    destination = destination.replace("app.db", config.database_path.name)
    before = {file.name for file in folder.iterdir()}

    result = run("backup", folder / destination)

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.count("\n") == 1
    assert complaint in result.stderr
    assert {file.name for file in folder.iterdir()} == before
    assert (folder / "letter.txt").read_text() == "Dear reader"
    assert post_signed(a_message(message_id="m2")).status_code == 200


@pytest.mark.parametrize("keep", ["0", "-1", "many", "1.5"])
def test_a_wrong_number_to_keep_is_one_line(run: Run, tmp_path: Path, keep: str) -> None:
    result = run("backup", "--keep", keep, tmp_path / "backups")

    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert "--keep" in result.stderr


def test_two_backups_to_one_file_are_not_mixed(run: Run, tmp_path: Path) -> None:
    with in_place_when_complete(tmp_path / "b.db") as other:
        other.write_text("begun")
        result = run("backup", tmp_path / "b.db")
        there = other.read_text()

    assert (result.exit_code, there) == (0, "begun")
    assert [file.read_text() for file in tmp_path.glob("b.db*")] == ["begun"]


def full(*_args: object) -> None:
    error = sqlite3.OperationalError("database or disk is full")
    error.sqlite_errorcode = sqlite3.SQLITE_FULL
    raise error


@pytest.mark.parametrize("step", ["copies", "checks"])
def test_a_full_disk_leaves_the_old_backup(
    run: Run, post_signed: Post, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    post_signed(a_message(text="x" * 4096))
    run("backup", tmp_path / "b.db")
    before = (tmp_path / "b.db").read_bytes()

    if step == "copies":
        monkeypatch.setattr(backups, "copy_moment", failing_copy(full))
    else:
        monkeypatch.setattr(verifying, "run_in_parallel", full)
    result = run("backup", tmp_path / "b.db")

    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert re.fullmatch(
        rf"Error: {tmp_path}/b\.db\.\w{{8}}\.partial: No space left on device\n", result.stderr
    )
    assert (tmp_path / "b.db").read_bytes() == before
    assert not list(tmp_path.glob("*.partial*"))


def failing_copy(progress: Callable[[int, int], None]) -> object:
    return lambda source, path, _progress: copy_moment(source, path, progress)


def test_a_damaged_database_does_not_replace_a_good_backup(
    run: Run, post_signed: Post, config: Config, tmp_path: Path
) -> None:
    post_signed(a_message())
    run("backup", tmp_path / "b.db")
    before = (tmp_path / "b.db").read_bytes()
    with closing(sqlite3.connect(config.database_path)) as connection, connection:
        connection.execute("UPDATE totals SET messages = 7")

    result = run("backup", tmp_path / "b.db")

    assert (result.exit_code, result.stdout) == (
        1,
        "totals messages: kept is 7, should be 1\n",
    )
    assert (tmp_path / "b.db").read_bytes() == before


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGKILL])
def test_a_backup_that_is_stopped_leaves_no_file_of_that_name(
    run: Run, config: Config, tmp_path: Path, signal_number: int
) -> None:
    fill(config.database_path, 10_000)
    with command(config.database_path, "backup", tmp_path / "b.db") as backup:
        wait_until(lambda: any(f.stat().st_size for f in tmp_path.glob("b.db.*.partial")))
        backup.send_signal(signal_number)
        _, stderr = backup.communicate()

    assert backup.returncode == (1 if signal_number == signal.SIGINT else -signal_number)
    assert not (tmp_path / "b.db").exists()
    if signal_number == signal.SIGINT:
        assert stderr.strip() == "Aborted!"
        assert not list(tmp_path.glob("b.db*"))
    assert run("backup", tmp_path / "b.db").exit_code == 0
    assert [file.name for file in tmp_path.glob("b.db*")] == ["b.db"]
