"""Other users of the machine can neither read the messages nor stop the deliveries."""

import fcntl
import os
import stat
from pathlib import Path

import pytest

from tests.cli.running import command
from tests.serving import serving
from webhook_api.store.database import Database


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
