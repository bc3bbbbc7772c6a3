"""A restore, seen by readers of the feed: no position is taken for another message."""

from pathlib import Path
from typing import Any

from tests.builders import a_message
from tests.conftest import Api
from webhook_api.maintenance.backup import back_up
from webhook_api.store.database import Database


def test_positions_after_the_backup_are_noticed_and_older_ones_go_on(
    api: Api, database: Database, tmp_path: Path
) -> None:
    client = api.app.test_client()

    def ids(after: str) -> Any:
        reply: Any = client.get(f"/messages?after={after}")
        page = reply.json
        return page.get("code") or [one["message_id"] for one in page["data"]]

    for name in "abc":
        api.post(a_message(message_id=name))
    back_up(database, tmp_path / "backup.db")
    for name in "de":
        api.post(a_message(message_id=name))
    positions = [one["position"] for one in api.get("/messages", after="start")["data"]]

    assert api.run("restore", tmp_path / "backup.db").exit_code == 0

    assert [ids(one) for one in positions] == [["b", "c"], ["c"], [], "diverged", "diverged"]
    for name in "ed":  # delivered again, in another order
        api.post(a_message(message_id=name))
    assert [ids(one) for one in positions[2:]] == [["e", "d"], "diverged", "diverged"]
    api.run("restore", tmp_path / "backup.db")
    for name in "de":  # the same messages with the same ids, at another time
        api.post(a_message(message_id=name))
    assert [ids(one) for one in positions[2:]] == [["d", "e"], "diverged", "diverged"]
