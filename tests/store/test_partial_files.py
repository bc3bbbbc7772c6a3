"""Files that get their name when they are complete, and what others do meanwhile."""

import fcntl
from pathlib import Path

import pytest

from webhook_api.store.partial_files import in_place_when_complete, temporary_file


def test_a_file_that_got_its_name_while_another_waited_is_not_emptied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    destination, lock = tmp_path / "app.db", fcntl.flock

    def complete_the_other_first(descriptor: int, operation: int) -> None:
        monkeypatch.setattr(fcntl, "flock", lock)
        with in_place_when_complete(destination) as partial:
            partial.write_text("complete")
        lock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", complete_the_other_first)
    with temporary_file(tmp_path / "app.db.partial"):
        pass

    assert destination.read_text() == "complete"


def test_the_next_file_of_the_same_name_is_not_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.replace

    def rename_and_begin_the_next(self: Path, target: Path) -> Path:
        renamed = rename(self, target)
        self.write_text("of the next")
        return renamed

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", rename_and_begin_the_next)
        with in_place_when_complete(tmp_path / "app.db"):
            pass

    assert (tmp_path / "app.db.partial").read_text() == "of the next"


def test_another_that_is_about_to_end_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, refused = fcntl.flock, iter([True, True])

    def busy_at_first(descriptor: int, operation: int) -> None:
        if next(refused, False):
            raise BlockingIOError
        lock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", busy_at_first)
    with in_place_when_complete(tmp_path / "app.db"):
        pass

    assert (tmp_path / "app.db").exists()
