"""`flask --app wsgi restore` that is stopped: the service has one of the files, whole."""

import shutil
import signal
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from tests.builders import a_message
from tests.cli.running import command
from tests.conftest import Api
from tests.dying import restore_until
from tests.forks import killed
from tests.serving import wait_until
from tests.store.files import all_ids, differences, fill, replaced, stored
from webhook_api.maintenance import replacing
from webhook_api.store.database import Database


def dies(database: Path, backup: Path, steps: int, *, keep: bool) -> None:
    killed(partial(restore_until, keep=keep), database, backup, steps)


@pytest.mark.parametrize("steps", range(1, 5))
def test_after_a_kill_between_any_two_steps_the_service_has_one_of_the_files(
    backup: Path, api: Api, steps: int
) -> None:
    api.client.get("/messages")  # a pooled reader

    dies(api.config.database_path, backup, steps, keep=True)
    first_read = api.client.get("/messages")
    delivered = api.post(a_message(message_id="later"))

    assert (first_read.status_code, delivered.status_code) == (200, 200)
    assert len(replaced(api.config.database_path)) == (steps >= 2)
    now = stored(api.config.database_path)
    assert now == ({"kept", "later"} if steps >= 2 else {"kept", "newer", "later"})
    assert all_ids(api.config.database_path) == {"kept", "newer", "later"}
    assert api.get("/stats")["total_messages"] == len(now)
    assert differences(api.config.database_path) == []


def test_a_file_that_is_not_kept_is_deleted_with_its_log(backup: Path, api: Api) -> None:
    api.client.get("/messages")  # a pooled reader

    def make(new: Path) -> None:
        shutil.copyfile(backup, new)

    with closing(Database(api.config.database_path)) as database:
        kept = replacing.replace(database, make, keep=False)

    files = {file.name for file in backup.parent.iterdir()}
    assert kept is None
    assert api.get("/stats")["total_messages"] == 1
    assert api.post(a_message(message_id="later")).status_code == 200
    assert files == {"b.db", "app.db", "app.db.lock", "app.db.names.lock", "app.db.last-backup"}


@pytest.mark.parametrize("steps", range(1, 8))
def test_a_file_that_is_not_kept_is_deleted_whole_after_a_kill_between_any_two_steps(
    backup: Path, api: Api, steps: int
) -> None:
    api.client.get("/messages")

    dies(api.config.database_path, backup, steps, keep=False)
    delivered = api.post(a_message(message_id="later"))
    Database(api.config.database_path).prepare()

    assert delivered.status_code == 200
    now = stored(api.config.database_path)
    assert now == ({"kept", "later"} if steps >= 3 else {"kept", "newer", "later"})
    assert not replaced(api.config.database_path)
    assert not list(backup.parent.glob("*orphan"))
    assert not list(backup.parent.glob("*discarded"))
    assert differences(api.config.database_path) == []


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGKILL])
def test_a_restore_that_is_stopped_while_it_checks_changes_nothing(
    api: Api, backup: Path, signal_number: int
) -> None:
    big = Database(backup.with_name("big.db"))
    big.prepare(create=True)
    fill(big.path, 10_000)

    with command(api.config.database_path, "restore", big.path) as restore:
        wait_until(
            lambda: any(f.stat().st_size for f in backup.parent.glob("*.restored.*.partial"))
        )
        restore.send_signal(signal_number)
        _, stderr = restore.communicate()

    assert restore.returncode == (1 if signal_number == signal.SIGINT else -signal_number)
    assert stored(api.config.database_path) == {"kept", "newer"}
    if signal_number == signal.SIGINT:
        assert stderr.strip() == "Aborted!"
        assert not list(backup.parent.glob("*.restored*"))
    assert api.run("restore", backup).exit_code == 0
    assert not list(backup.parent.glob("*.restored*"))
