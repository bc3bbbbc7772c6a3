"""`flask --app wsgi init-db`: it creates what is missing, and changes nothing else."""

import pytest

from tests.builders import a_message
from tests.cli.running import environment, forked
from tests.conftest import Api


def test_init_db_leaves_what_is_there(api: Api) -> None:
    api.post(a_message())

    result = api.run("init-db")

    assert result.exit_code == 0
    assert api.rows("SELECT count(*) FROM messages") == [(1,)]


@pytest.mark.parametrize("lost", ["app.db", "app.db*"])
def test_the_service_goes_on_with_a_file_that_init_db_made_again(api: Api, lost: str) -> None:
    for number in range(40):
        api.post(a_message(message_id=f"before {number}", text=f"{number}" * 2000))
    api.client.get("/messages")
    for file in api.config.database_path.parent.glob(lost):
        file.unlink()
    refused = api.post(a_message())

    # By another process: what one process has open, SQLite knows there.
    code, _, stderr = forked("init-db", **environment(api.config.database_path))

    assert (refused.status_code, code, stderr) == (503, 0, "")
    assert api.post(a_message()).status_code == 200
    assert api.rows("SELECT message_id FROM messages") == [("m1",)]
    assert api.client.get("/messages").get_json()["total"] == 1
    assert api.rows("PRAGMA integrity_check") == [("ok",)]


def test_init_db_keeps_the_wal_of_a_file_that_is_gone(api: Api) -> None:
    api.post(a_message())
    wal = api.config.database_path.with_name("app.db-wal")
    written = wal.read_bytes()
    api.config.database_path.unlink()

    api.run("init-db")

    assert wal.with_name("app.db-wal.orphan").read_bytes() == written != b""
