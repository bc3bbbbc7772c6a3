"""`flask --app wsgi restore` that is refused or fails: the database stays as it was."""

import errno
import os
import random
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.builders import a_message
from tests.conftest import Api
from tests.store.files import stored
from webhook_api.maintenance import restore as restores
from webhook_api.store.schema import SCHEMA_VERSION

NEW_FILE = r".*/app\.db\.restored\.\w{8}\.partial"


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
    api: Api, backup: Path, harm: Callable[[Path], None], complaint: str
) -> None:
    harm(backup)
    before = {file.name for file in backup.parent.iterdir()}

    result = api.run("restore", backup)

    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (1, "", 1)
    assert result.stderr.startswith(f"Error: {backup}: ")
    assert complaint in result.stderr
    assert {file.name for file in backup.parent.iterdir()} == before
    assert stored(api.config.database_path) == {"kept", "newer"}


def test_a_file_whose_counters_are_wrong_is_refused(api: Api, backup: Path) -> None:
    with closing(sqlite3.connect(backup)) as connection, connection:
        connection.execute("UPDATE totals SET messages = 7")

    result = api.run("restore", backup)

    assert (result.exit_code, result.stdout) == (1, "totals messages: kept is 7, should be 1\n")


@pytest.mark.parametrize("name", ["app.db", "link.db", "hard.db"])
def test_the_database_itself_is_refused(api: Api, backup: Path, name: str) -> None:
    folder = api.config.database_path.parent
    (folder / "link.db").symlink_to(api.config.database_path)
    (folder / "hard.db").hardlink_to(api.config.database_path)

    result = api.run("restore", folder / name)

    assert (result.exit_code, result.stderr) == (
        1,
        f"Error: {folder / name}: is the database itself\n",
    )
    assert api.post(a_message(message_id="m2")).status_code == 200


def test_a_full_disk_leaves_the_database(
    api: Api, backup: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_args: object) -> None:
        error = sqlite3.OperationalError("database or disk is full")
        error.sqlite_errorcode = sqlite3.SQLITE_FULL
        raise error

    monkeypatch.setattr(restores, "run_in_parallel", full)
    result = api.run("restore", backup)

    assert result.exit_code == 1
    assert re.fullmatch(rf"Error: {NEW_FILE}: database or disk is full\n", result.stderr)
    assert stored(api.config.database_path) == {"kept", "newer"}
    assert not list(backup.parent.glob("*.restored*"))


def test_a_source_without_end_is_refused_at_once(api: Api) -> None:
    assert api.run("restore", "/dev/zero").stderr == (
        "Error: /dev/zero: is no database of this service\n"
    )
    assert not list(api.config.database_path.parent.glob("*.restored*"))


@pytest.mark.parametrize("from_stdin", [True, False])
def test_a_disk_that_fills_up_during_the_copying_is_named(
    api: Api, backup: Path, monkeypatch: pytest.MonkeyPatch, from_stdin: bool
) -> None:
    def full(*_files: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(restores, "_copy_bytes", full)
    result = api.run("restore", "-" if from_stdin else backup)

    assert result.exit_code == 1
    assert re.fullmatch(rf"Error: {NEW_FILE}: No space left on device\n", result.stderr)
    assert stored(api.config.database_path) == {"kept", "newer"}


@pytest.mark.parametrize("from_stdin", [True, False])
def test_even_the_smallest_file_needs_space(
    api: Api, backup: Path, from_stdin: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise SQLite would report an I/O error of the file."""
    nearly_full = SimpleNamespace(free=0 if from_stdin else backup.stat().st_size + 50_000)
    monkeypatch.setattr("shutil.disk_usage", lambda _folder: nearly_full)

    result = api.run("restore", "-" if from_stdin else backup, stdin=backup.read_bytes())

    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert "no space for" in result.stderr
    assert not list(backup.parent.glob("*.restored*"))
