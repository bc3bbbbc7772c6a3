"""`flask --app wsgi init-db`: it creates what is missing, and changes nothing else."""

import pytest
from flask.testing import FlaskClient

from tests.builders import a_message
from tests.cli.running import Run, environment, forked
from tests.conftest import Post, Rows
from webhook_api.config import Config


def test_init_db_leaves_what_is_there(run: Run, post_signed: Post, rows: Rows) -> None:
    post_signed(a_message())

    result = run("init-db")

    assert result.exit_code == 0
    assert rows("SELECT count(*) FROM messages") == [(1,)]


@pytest.mark.parametrize("lost", ["app.db", "app.db*"])
def test_the_service_goes_on_with_a_file_that_init_db_made_again(
    client: FlaskClient, post_signed: Post, rows: Rows, config: Config, lost: str
) -> None:
    for number in range(40):
        post_signed(a_message(message_id=f"before {number}", text=f"{number}" * 2000))
    client.get("/messages")
    for file in config.database_path.parent.glob(lost):
        file.unlink()
    refused = post_signed(a_message())

    # By another process: what one process has open, SQLite knows there.
    code, _, stderr = forked("init-db", **environment(config.database_path))

    assert (refused.status_code, code, stderr) == (503, 0, "")
    assert post_signed(a_message()).status_code == 200
    assert rows("SELECT message_id FROM messages") == [("m1",)]
    assert client.get("/messages").get_json()["total"] == 1
    assert rows("PRAGMA integrity_check") == [("ok",)]


def test_init_db_keeps_the_wal_of_a_file_that_is_gone(
    run: Run, post_signed: Post, config: Config
) -> None:
    post_signed(a_message())
    wal = config.database_path.with_name("app.db-wal")
    written = wal.read_bytes()
    config.database_path.unlink()

    run("init-db")

    assert wal.with_name("app.db-wal.orphan").read_bytes() == written != b""
