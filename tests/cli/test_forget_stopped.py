"""`flask --app wsgi forget` that fails or is stopped: all is removed or nothing."""

import signal
import sqlite3
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest
from flask.testing import FlaskClient

from tests.builders import a_message
from tests.cli.running import Run, command
from tests.conftest import Post
from tests.dying import forget_until
from tests.forks import killed
from tests.serving import wait_until
from tests.store.files import differences, fill, removed, stored
from tests.store.forgotten import NUMBER, traces
from webhook_api.config import Config
from webhook_api.maintenance import compaction, replacing
from webhook_api.store.database import Database
from webhook_api.store.files import complete_replacement
from webhook_api.store.lock import WriteLock


@pytest.mark.usefixtures("talk")
def test_ctrl_c_in_the_last_step_comes_too_late(
    run: Run, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(path: Path, lock: WriteLock) -> None:
        signal.raise_signal(signal.SIGINT)
        complete_replacement(path, lock)

    monkeypatch.setattr(replacing, "complete_replacement", interrupted)

    result = run("forget", NUMBER)

    assert (result.exit_code, result.stdout.splitlines()[0]) == (0, "2 messages removed")
    assert stored(config.database_path) == {"other"}


@pytest.mark.usefixtures("talk")
def test_a_full_disk_leaves_the_database(
    run: Run, config: Config, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def full(*_args: object) -> None:
        error = sqlite3.OperationalError("database or disk is full")
        error.sqlite_errorcode = sqlite3.SQLITE_FULL
        raise error

    before = {file.name for file in tmp_path.iterdir()}
    before |= {"app.db.names.lock", "app.db.removal.lock"}
    monkeypatch.setattr(compaction, "_vacuum_into", full)
    in_the_midst = run("forget", NUMBER)
    monkeypatch.setattr("shutil.disk_usage", lambda _folder: SimpleNamespace(free=100_000))
    at_first = run("forget", NUMBER)

    assert in_the_midst.stderr == f"Error: {tmp_path}: No space left on device\n"
    assert "no space for" in at_first.stderr
    assert (in_the_midst.exit_code, at_first.exit_code) == (1, 1)
    assert {file.name for file in tmp_path.iterdir()} == before
    assert stored(config.database_path) == {"from", "to", "other"}


@pytest.mark.usefixtures("talk")
def test_a_damaged_database_is_not_replaced(run: Run, config: Config) -> None:
    with closing(sqlite3.connect(config.database_path)) as db, db:
        db.execute("UPDATE totals SET messages = 7")

    result = run("forget", NUMBER)

    assert (result.exit_code, result.stdout) == (
        1,
        "totals messages: kept is 5, should be 1\n",
    )
    assert stored(config.database_path) == {"from", "to", "other"}


def test_ctrl_c_ends_forget_with_one_line_and_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    Database(path).prepare(create=True)
    fill(path, 20_000)

    with command(path, "forget", "+7") as process:
        wait_until(lambda: any(f.stat().st_size for f in tmp_path.glob("*.compacting.*.partial")))
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)

    assert (process.returncode, out, err) == (130, "stopped; nothing was removed\n", "")
    assert len(stored(path)) == 20_000
    assert not list(tmp_path.glob("*compacting*"))
    assert not list(tmp_path.glob("*restored*"))


@pytest.mark.usefixtures("talk")
@pytest.mark.parametrize("steps", [3, 5, 6, 10, 13, *range(16, 24)])
def test_after_a_kill_at_any_step_all_is_removed_or_nothing(
    run: Run, config: Config, client: FlaskClient, post_signed: Post, steps: int
) -> None:
    """The steps: each file that is opened, shortened, renamed or deleted; 23 is the last."""
    path = config.database_path
    client.get("/messages")  # a pooled reader

    killed(forget_until, path, NUMBER, steps)
    delivered = post_signed(a_message(message_id="later"))
    there = stored(path)
    gone = removed(path, "from", "to")
    found = differences(path)
    Database(path).prepare()

    assert delivered.status_code == 200
    assert (there, gone) == (
        ({"from", "to", "other", "later"}, set())
        if steps <= 17  # the renaming of the old file
        else ({"other", "later"}, {"from", "to"})
    )
    assert found == []
    endings = (".restored", ".partial", ".discarded", ".orphan")
    assert not [file for file in path.parent.iterdir() if file.name.endswith(endings)]
    assert steps <= 17 or traces(path.parent) == []
    assert run("forget", NUMBER).exit_code == 0
    assert traces(path.parent) == []
