"""Files: named when they are complete, copied as of one moment, and for our user alone."""

import fcntl
import os
import stat
from pathlib import Path

import pytest

from tests.cli.running import command
from tests.serving import serving
from tests.store.files import store, stored
from webhook_api.store.copies import (
    copy_moment,
    in_place_when_complete,
    remove_leftovers,
    temporary_file,
)
from webhook_api.store.database import Database


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


def open_to_others(folder: Path) -> dict[str, str]:
    """Each file and folder that other users can use, and its mode."""
    files = [folder / "data", *(folder / "data").rglob("*")]
    modes = {str(file.relative_to(folder)): file.lstat().st_mode for file in files}
    return {name: oct(mode) for name, mode in modes.items() if stat.S_IMODE(mode) & 0o077}


def test_every_file_is_for_our_user_alone(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        folder = server.database.parent
        server.deliver_all(["m1"])
        for arguments in (
            ["backup", folder / "b.db"], ["backup", "--keep", 2, folder / "kept"],
            ["restore", folder / "b.db"], ["forget", "+1"], ["export", folder / "export"],
        ):  # fmt: skip
            with command(server.database, *arguments) as run:
                _, stderr = run.communicate()
            assert run.returncode == 0, stderr
        server.deliver_all(["m2"])
        found = {file.name for file in folder.iterdir()}

        assert {"app.db", "app.db-wal", "app.db-shm", "app.db.lock", "b.db", "kept"} <= found
        assert open_to_others(folder.parent) == {}


def test_files_of_an_earlier_version_are_closed_to_others_by_a_start(
    database: Database, tmp_path: Path
) -> None:
    names = ["app.db", "app.db.lock", "app-replaced-20250115T100000.000000Z.db"]
    for name in names:
        (tmp_path / name).touch()
        (tmp_path / name).chmod(0o644)
    other = tmp_path / "letter"
    other.touch()
    other.chmod(0o644)
    (tmp_path / "app.db.last-backup").symlink_to(other)

    database.prepare()

    assert [oct((tmp_path / name).stat().st_mode & 0o777) for name in names] == ["0o600"] * 3
    assert oct(other.stat().st_mode & 0o777) == "0o644"


@pytest.mark.parametrize("ending", [".lock", ".names.lock"])
def test_a_link_in_the_place_of_a_lock_is_refused(
    database: Database, tmp_path: Path, ending: str
) -> None:
    (tmp_path / f"app.db{ending}").symlink_to(tmp_path / "theirs")

    with pytest.raises(OSError, match="symbolic links"):
        database.prepare()

    assert not (tmp_path / "theirs").exists()


def test_a_lock_on_the_folder_stops_nobody(database: Database, tmp_path: Path) -> None:
    """Whoever can list a folder can lock it."""
    folder = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    try:
        with database.reader() as reader, database.write_lock(0):
            assert reader.execute("SELECT count(*) FROM messages").fetchone() == (0,)
    finally:
        os.close(folder)
