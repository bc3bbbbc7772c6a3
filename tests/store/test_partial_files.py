"""Files that get their name when they are complete, and what others do meanwhile."""

import fcntl
import stat
from pathlib import Path

import pytest

from webhook_api.store.copies import in_place_when_complete, remove_leftovers, temporary_file


def test_another_users_files_and_links_of_such_a_name_are_not_written_through(
    tmp_path: Path,
) -> None:
    """Both names are those of earlier versions, which anybody could guess."""
    theirs = tmp_path / "theirs"
    theirs.write_text("a letter")
    (tmp_path / "b.db.partial").symlink_to(theirs)
    (tmp_path / "b.db.abcdefgh.partial").symlink_to(theirs)
    (tmp_path / "b.db.hgfedcba.partial").hardlink_to(theirs)

    with in_place_when_complete(tmp_path / "b.db") as partial:
        partial.write_text("complete")
        assert stat.S_IMODE(partial.stat().st_mode) == 0o600

    assert theirs.read_text() == "a letter"
    assert len(list(tmp_path.glob("b.db.*"))) == 3
    assert (tmp_path / "b.db").read_text() == "complete"
    assert not (tmp_path / "b.db").is_symlink()


def test_what_a_killed_command_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    for name in ("b.db.abcdefgh.partial", "b.db.abcdefgh.partial-wal", "b.db.partial", "b.db.x"):
        (tmp_path / name).touch()
    with temporary_file(tmp_path / "b.db") as (used, _):
        remove_leftovers(tmp_path / "b.db")

        assert {file.name for file in tmp_path.iterdir()} == {used.name, "b.db.partial", "b.db.x"}


def test_a_new_file_that_another_command_took_for_a_leftover_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = fcntl.flock

    def remove_first(descriptor: int, operation: int) -> None:
        monkeypatch.setattr(fcntl, "flock", lock)
        Path(f"/proc/self/fd/{descriptor}").readlink().unlink()
        lock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", remove_first)
    with in_place_when_complete(tmp_path / "b.db") as partial:
        partial.write_text("complete")

    assert (tmp_path / "b.db").read_text() == "complete"


def test_the_next_file_of_the_same_name_is_not_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.replace
    next_one = []

    def rename_and_begin_the_next(self: Path, target: Path) -> Path:
        renamed = rename(self, target)
        self.write_text("of the next")
        next_one.append(self)
        return renamed

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", rename_and_begin_the_next)
        with in_place_when_complete(tmp_path / "app.db"):
            pass

    assert next_one[0].read_text() == "of the next"
