"""A copy of the database as it is at one moment."""

from pathlib import Path

from tests.store.files import store, stored
from webhook_api.store.copies import copy_moment
from webhook_api.store.database import Database


def test_a_copy_does_not_begin_again_when_messages_arrive(
    database: Database, tmp_path: Path
) -> None:
    store(database.path, *(f"before{number}" for number in range(1200)), text="x" * 4096)
    copy = tmp_path / "copy.db"
    copy.touch()
    progress: list[int] = []

    def store_another(done: int, _of: int) -> None:
        assert len(progress) < 100
        store(database.path, f"during{len(progress)}")
        progress.append(done)

    with database.reader() as reader:
        copy_moment(reader, copy, store_another)

    assert len(progress) > 1
    assert progress == sorted(progress)
    assert stored(copy) == {f"before{number}" for number in range(1200)}
