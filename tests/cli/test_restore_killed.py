"""`flask --app wsgi restore` that is stopped: the service has one of the files, whole."""

import shutil
import signal
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from tests.builders import a_message
from tests.cli.running import Run, command
from tests.conftest import Get, Post
from tests.dying import restore_until
from tests.forks import killed
from tests.serving import wait_until
from tests.store.files import all_ids, differences, fill, replaced, stored
from webhook_api.config import Config
from webhook_api.maintenance import replacing
from webhook_api.store.database import Database


def dies(database: Path, backup: Path, steps: int, *, keep: bool) -> None:
    killed(partial(restore_until, keep=keep), database, backup, steps)


@pytest.mark.parametrize("steps", range(1, 5))
def test_after_a_kill_between_any_two_steps_the_service_has_one_of_the_files(
    backup: Path, config: Config, post_signed: Post, client: FlaskClient, get: Get, steps: int
) -> None:
    client.get("/messages")  # a pooled reader

    dies(config.database_path, backup, steps, keep=True)
    first_read = client.get("/messages")
    delivered = post_signed(a_message(message_id="later"))

    assert (first_read.status_code, delivered.status_code) == (200, 200)
    assert len(replaced(config.database_path)) == (steps >= 2)
    now = stored(config.database_path)
    assert now == ({"kept", "later"} if steps >= 2 else {"kept", "newer", "later"})
    assert all_ids(config.database_path) == {"kept", "newer", "later"}
    assert get("/stats")["total_messages"] == len(now)
    assert differences(config.database_path) == []


def test_a_file_that_is_not_kept_is_deleted_with_its_log(
    backup: Path, config: Config, post_signed: Post, client: FlaskClient, get: Get
) -> None:
    client.get("/messages")  # a pooled reader

    def make(new: Path) -> None:
        shutil.copyfile(backup, new)

    with closing(Database(config.database_path)) as database:
        kept = replacing.replace(database, make, keep=False)

    files = {file.name for file in backup.parent.iterdir()}
    assert kept is None
    assert get("/stats")["total_messages"] == 1
    assert post_signed(a_message(message_id="later")).status_code == 200
    assert files == {"b.db", "app.db", "app.db.lock", "app.db.names.lock", "app.db.last-backup"}


@pytest.mark.parametrize("steps", range(1, 8))
def test_a_file_that_is_not_kept_is_deleted_whole_after_a_kill_between_any_two_steps(
    backup: Path, config: Config, post_signed: Post, client: FlaskClient, steps: int
) -> None:
    client.get("/messages")

    dies(config.database_path, backup, steps, keep=False)
    delivered = post_signed(a_message(message_id="later"))
    Database(config.database_path).prepare()

    assert delivered.status_code == 200
    now = stored(config.database_path)
    assert now == ({"kept", "later"} if steps >= 3 else {"kept", "newer", "later"})
    assert not replaced(config.database_path)
    assert not list(backup.parent.glob("*orphan"))
    assert not list(backup.parent.glob("*discarded"))
    assert differences(config.database_path) == []


@pytest.mark.parametrize(
    "signal_number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL]
)
def test_a_restore_that_is_stopped_while_it_checks_changes_nothing(
    run: Run, backup: Path, config: Config, signal_number: int
) -> None:
    big = Database(backup.with_name("big.db"))
    big.prepare(create=True)
    fill(big.path, 10_000)

    with command(config.database_path, "restore", big.path) as restore:
        wait_until(
            lambda: any(f.stat().st_size for f in backup.parent.glob("*.restored.*.partial"))
        )
        restore.send_signal(signal_number)
        _, stderr = restore.communicate()

    assert restore.returncode == (-signal_number if signal_number == signal.SIGKILL else 1)
    assert stored(config.database_path) == {"kept", "newer"}
    if signal_number != signal.SIGKILL:
        assert stderr.strip() == "Aborted!"
        assert not list(backup.parent.glob("*.restored*"))
    assert run("restore", backup).exit_code == 0
    assert not list(backup.parent.glob("*.restored*"))
