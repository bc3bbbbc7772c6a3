"""`flask --app wsgi backup`: a complete copy of one moment or none, while the service runs."""

import re
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.builders import a_message, samples
from tests.cli.running import command
from tests.conftest import Api
from tests.serving import Load, serving, wait_until
from tests.store.files import failing, fill, ids
from webhook_api.maintenance import backup as backups
from webhook_api.maintenance import verify as verifying
from webhook_api.maintenance.verify import verify
from webhook_api.store.copies import copy_moment, in_place_when_complete
from webhook_api.store.database import Database


def test_a_backup_is_the_whole_state_in_one_file_that_is_checked(api: Api, tmp_path: Path) -> None:
    for number in range(3):
        api.post(a_message(message_id=f"m{number}"))
    folder = tmp_path / "elsewhere"
    folder.mkdir()

    first = api.run("backup", folder / "b.db")
    api.post(a_message(message_id="m3"))
    second = api.run("backup", folder / "b.db")

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


def test_the_metric_names_the_moment_of_the_last_backup(api: Api, tmp_path: Path) -> None:
    name = "last_backup_timestamp_seconds"
    assert name not in samples(api.client.get("/metrics").text)

    api.run("backup", tmp_path / "b.db")

    written = (tmp_path / "b.db").stat().st_mtime  # by a clock with ticks of some milliseconds
    assert written - 10 < samples(api.client.get("/metrics").text)[name] < written + 0.1


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


@pytest.mark.parametrize(
    ("dated", "removed"),
    [
        # The others were made while the clock was wrong; they do not cost the one just made.
        (["20250101", "20250102", "20250103"], 2), (["29990101", "29990102"], 1),
    ],
    ids=["past", "future"],
)  # fmt: skip
def test_dated_backups_are_kept_and_nothing_else_is_removed(
    api: Api, tmp_path: Path, dated: list[str], removed: int
) -> None:
    stem = api.config.database_path.stem
    folder = tmp_path / "backups"
    folder.mkdir()
    old = [f"{stem}-{day}T000000Z.db" for day in dated]
    others = ["notes", f"{stem}-20250101T000000Z.db.bak", f"{stem}.db", "x-20250101T000000Z.db"]
    for name in old + others:
        (folder / name).touch()

    result = api.run("backup", "--keep", 2, folder)

    (made,) = {file.name for file in folder.iterdir()} - {*old, *others}
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        f"{folder}/{made}: 0 messages, nothing differs",
        *(f"{folder}/{name}: removed" for name in old[:removed]),
    ]
    assert {file.name for file in folder.iterdir()} == {made, *old[removed:], *others}


def test_two_backups_to_one_file_are_not_mixed(api: Api, tmp_path: Path) -> None:
    with in_place_when_complete(tmp_path / "b.db") as other:
        other.write_text("begun")
        result = api.run("backup", tmp_path / "b.db")
        there = other.read_text()

    assert (result.exit_code, there) == (0, "begun")
    assert [file.read_text() for file in tmp_path.glob("b.db*")] == ["begun"]


@pytest.mark.parametrize("step", ["copies", "checks"])
def test_a_full_disk_leaves_the_old_backup(
    api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    api.post(a_message(text="x" * 4096))
    api.run("backup", tmp_path / "b.db")
    before = (tmp_path / "b.db").read_bytes()

    full = failing(sqlite3.SQLITE_FULL)
    if step == "copies":
        monkeypatch.setattr(backups, "copy_moment", lambda db, path, _: copy_moment(db, path, full))
    else:
        monkeypatch.setattr(verifying, "run_in_parallel", full)
    result = api.run("backup", tmp_path / "b.db")

    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert re.fullmatch(
        rf"Error: {tmp_path}/b\.db\.\w{{8}}\.partial: No space left on device\n", result.stderr
    )
    assert (tmp_path / "b.db").read_bytes() == before
    assert not list(tmp_path.glob("*.partial*"))


def test_a_damaged_database_does_not_replace_a_good_backup(api: Api, tmp_path: Path) -> None:
    api.post(a_message())
    api.run("backup", tmp_path / "b.db")
    before = (tmp_path / "b.db").read_bytes()
    with closing(sqlite3.connect(api.config.database_path)) as connection, connection:
        connection.execute("UPDATE totals SET messages = 7")

    result = api.run("backup", tmp_path / "b.db")

    assert (result.exit_code, result.stdout) == (
        1,
        "totals messages: kept is 7, should be 1\n",
    )
    assert (tmp_path / "b.db").read_bytes() == before


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGKILL])
def test_a_backup_that_is_stopped_leaves_no_file_of_that_name(
    api: Api, tmp_path: Path, signal_number: int
) -> None:
    fill(api.config.database_path, 10_000)
    with command(api.config.database_path, "backup", tmp_path / "b.db") as backup:
        wait_until(lambda: any(f.stat().st_size for f in tmp_path.glob("b.db.*.partial")))
        backup.send_signal(signal_number)
        _, stderr = backup.communicate()

    assert backup.returncode == (1 if signal_number == signal.SIGINT else -signal_number)
    assert not (tmp_path / "b.db").exists()
    if signal_number == signal.SIGINT:
        assert stderr.strip() == "Aborted!"
        assert not list(tmp_path.glob("b.db*"))
    assert api.run("backup", tmp_path / "b.db").exit_code == 0
    assert [file.name for file in tmp_path.glob("b.db*")] == ["b.db"]
