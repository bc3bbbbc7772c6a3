"""What each worker does by itself, also if no request comes."""

import os
from contextlib import suppress
from pathlib import Path

import pytest

from tests.cli.running import command
from tests.serving import database_in, in_threads, serving, wait_until
from tests.store.files import arrived, store
from webhook_api.maintenance.background_tasks import BackgroundTasks
from webhook_api.store.database import Database
from webhook_api.store.writer import Writer

NUMBER = "+4915112345678"


def deleted_but_open(database: Path, *pids: int) -> list[str]:
    """The files of the database that are deleted, and that one of these processes has open."""
    files = []
    for descriptor in (each for pid in pids for each in Path(f"/proc/{pid}/fd").iterdir()):
        with suppress(FileNotFoundError):  # it was just closed
            files.append(str(descriptor.readlink()))
    return [file for file in files if file.startswith(str(database)) and file.endswith("(deleted)")]


@pytest.mark.parametrize("delivers", [True, False], ids=["that wrote", "that only read"])
def test_idle_workers_let_go_of_a_file_that_was_replaced(tmp_path: Path, delivers: bool) -> None:
    Database(database_in(tmp_path)).prepare(create=True)
    store(database_in(tmp_path), "x", sender=NUMBER)

    with serving(tmp_path) as server:

        def read() -> None:
            server.get("/messages")

        if delivers:
            server.deliver_all(map(str, range(50)))
        in_threads(8, read)
        forget = command(server.database, "forget", NUMBER)
        printed, _ = forget.communicate(timeout=30)
        processes = [server.process.pid, *server.workers]
        wait_until(lambda: not deleted_but_open(server.database, *processes), 5)
        after = server.get("/messages?limit=1").json["total"]

    assert printed.startswith("1 messages removed")
    assert after == (50 if delivers else 0)


def test_a_file_that_was_lost_stays_open(database: Database) -> None:
    writer = Writer(database)
    tasks = BackgroundTasks(database, writer, retention_days=0, poll_every_s=0)
    with database.reader():
        pass
    tasks.run_due_tasks()

    database.path.unlink()
    tasks.run_due_tasks()

    assert f"{database.path} (deleted)" in deleted_but_open(database.path, os.getpid())
    writer.close(timeout_s=0)


def test_old_messages_are_removed_even_if_no_request_comes(tmp_path: Path) -> None:
    Database(database_in(tmp_path)).prepare(create=True)
    arrived(database_in(tmp_path), days_ago=2, count=100)

    with serving(tmp_path, RETENTION_DAYS="1") as server:
        wait_until(lambda: server.query("SELECT messages FROM totals") == [(0,)])
