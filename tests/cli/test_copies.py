"""`backup` and `restore`: a complete copy of one moment or none, while the service runs."""

import errno
import os
import random
import re
import shutil
import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.builders import a_message
from tests.cli.running import command
from tests.conftest import Api
from tests.dying import restore_until
from tests.forks import killed
from tests.serving import Load, serving, wait_until
from tests.store.files import (
    all_ids,
    differences,
    failing,
    fill,
    ids,
    not_empty,
    removed,
    replaced,
    stored,
)
from webhook_api.maintenance import backup as backups
from webhook_api.maintenance import replacing
from webhook_api.maintenance import restore as restores
from webhook_api.maintenance import verify as verifying
from webhook_api.maintenance.backup import back_up
from webhook_api.start import StartError, prepare_database
from webhook_api.store.copies import copy_moment, in_place_when_complete
from webhook_api.store.database import Database
from webhook_api.store.schema import MIGRATIONS, SCHEMA_VERSION


def test_a_backup_is_the_whole_state_in_one_file_that_is_checked(api: Api, tmp_path: Path) -> None:
    name = "last_backup_timestamp_seconds"
    before = api.scrape()
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    for number in range(3):
        api.post(a_message(message_id=f"m{number}"))

    first = api.ran("backup", folder / "b.db")
    api.post(a_message(message_id="m3"))
    second = api.run("backup", folder / "b.db")

    assert first == (0, f"{folder}/b.db: 3 messages, nothing differs\n", "")
    assert second.stdout == f"{folder}/b.db: 4 messages, nothing differs\n"
    assert [file.name for file in folder.iterdir()] == ["b.db"]
    assert ids(folder / "b.db") == {"m0", "m1", "m2", "m3"}
    written = (folder / "b.db").stat().st_mtime  # by a clock with ticks of some milliseconds
    assert differences(folder / "b.db") == []
    assert name not in before
    assert written - 60 < api.scrape()[name] < written + 0.1


def test_a_backup_under_load_has_all_that_was_acknowledged_before(tmp_path: Path) -> None:
    with serving(tmp_path, WEB_CONCURRENCY=2) as server, Load(server, "m") as load:
        wait_until(lambda: len(load.acknowledged) > 100)
        before = set(load.acknowledged)
        with command(server.database, "backup", tmp_path / "b.db") as backup:
            stdout, stderr = backup.communicate()
        after = server.ids() | load.acknowledged

    assert (backup.returncode, stderr) == (0, "")
    assert stdout.endswith(" messages, nothing differs\n")
    assert before <= ids(tmp_path / "b.db") <= after
    assert set(load.statuses) == {200}


@pytest.mark.parametrize(
    ("dated", "gone"),
    [
        # The others were made while the clock was wrong; they do not cost the one just made.
        (["20250101", "20250102", "20250103"], 2), (["29990101", "29990102"], 1),
    ],
    ids=["past", "future"],
)  # fmt: skip
def test_dated_backups_are_kept_and_nothing_else_is_removed(
    api: Api, tmp_path: Path, dated: list[str], gone: int
) -> None:
    folder = tmp_path / "backups"
    folder.mkdir()
    old = [f"app-{day}T000000Z.db" for day in dated]
    others = ["notes", "app-20250101T000000Z.db.bak", "app.db", "x-20250101T000000Z.db"]
    for name in old + others:
        (folder / name).touch()

    code, stdout, _ = api.ran("backup", "--keep", 2, folder)

    (made,) = {file.name for file in folder.iterdir()} - {*old, *others}
    assert code == 0
    assert stdout.splitlines() == [
        f"{folder}/{made}: 0 messages, nothing differs",
        *(f"{folder}/{name}: removed" for name in old[:gone]),
    ]
    assert {file.name for file in folder.iterdir()} == {made, *old[gone:], *others}


def test_two_backups_to_one_file_are_not_mixed(api: Api, tmp_path: Path) -> None:
    with in_place_when_complete(tmp_path / "b.db") as other:
        other.write_text("begun")
        assert api.run("backup", tmp_path / "b.db").exit_code == 0
        assert other.read_text() == "begun"

    assert [file.read_text() for file in tmp_path.glob("b.db*")] == ["begun"]


@pytest.mark.parametrize("harm", ["copies", "checks", "counters"])
def test_a_full_disk_or_a_damaged_database_leaves_the_old_backup(
    api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, harm: str
) -> None:
    api.post(a_message(text="x" * 4096))
    api.run("backup", tmp_path / "b.db")
    before = (tmp_path / "b.db").read_bytes()
    full = failing(sqlite3.SQLITE_FULL)
    if harm == "copies":
        monkeypatch.setattr(backups, "copy_moment", lambda db, path, _: copy_moment(db, path, full))
    elif harm == "checks":
        monkeypatch.setattr(verifying, "run_in_parallel", full)
    else:
        api.damage("UPDATE totals SET messages = 7")

    code, stdout, stderr = api.ran("backup", tmp_path / "b.db")

    assert code == 1
    if harm == "counters":
        assert stdout == "totals messages: kept is 7, should be 1\n"
    else:
        partial_file = rf"{tmp_path}/b\.db\.\w{{8}}\.partial"
        assert re.fullmatch(rf"Error: {partial_file}: No space left on device\n", stderr)
    assert (tmp_path / "b.db").read_bytes() == before
    assert not list(tmp_path.glob("*.partial*"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
@pytest.mark.parametrize("what", ["backup", "restore"])
def test_one_that_is_stopped_changes_nothing(
    api: Api, backup: Path, what: str, number: int
) -> None:
    folder = backup.parent
    big, made = folder / "big.db", folder / "made.db"
    Database(big).prepare(create=True)
    fill(big if what == "restore" else api.path, 10_000)
    file, new = (big, "app.db.restored") if what == "restore" else (made, "made.db")
    before = stored(api.path)

    with command(api.path, what, file) as running:
        wait_until(lambda: bool(not_empty(folder, f"{new}.*.partial")))
        running.send_signal(number)
        _, stderr = running.communicate()

    assert running.returncode == (-number if number == signal.SIGKILL else 1)
    assert stored(api.path) == before
    assert not (folder / new).exists()
    if number != signal.SIGKILL:
        assert stderr.strip() == "Aborted!"
        assert not list(folder.glob(f"{new}*"))
    assert api.run(what, backup if what == "restore" else made).exit_code == 0
    assert not list(folder.glob(f"{new}.*"))


def totals(api: Api) -> tuple[int, int, int]:
    found = api.get("/messages", q="i")
    return api.get("/stats")["total_messages"], found["total"], len(found["data"])


def test_the_service_goes_on_with_a_restored_file_and_the_old_one_is_kept(
    api: Api, backup: Path
) -> None:
    api.post(a_message(message_id="newest", text="third"))
    before = totals(api)

    result = api.ran("restore", backup)

    (kept,) = replaced(api.path)
    after = totals(api)
    api.post(a_message(message_id="later", text="first"))
    assert result == (0, f"{api.path}: 1 messages, nothing differs\n{kept}: kept\n", "")
    assert (before, after, totals(api)) == ((3, 2, 2), (1, 1, 1), (2, 2, 2))
    assert ids(kept) == {"kept", "newer", "newest"}
    assert differences(api.path) == []
    assert not kept.with_name(kept.name + "-wal").exists()


def test_a_file_may_come_from_stdin_and_with_its_wal(api: Api, backup: Path) -> None:
    for ending in ("", "-wal"):
        source = api.path.with_name(api.path.name + ending)
        (backup.parent / f"snapshot.db{ending}").write_bytes(source.read_bytes())
    assert (backup.parent / "snapshot.db-wal").stat().st_size

    assert api.run("restore", "-", stdin=backup.read_bytes()).exit_code == 0
    assert api.get("/stats")["total_messages"] == 1
    assert api.run("restore", backup.parent / "snapshot.db").exit_code == 0
    assert ids(api.path) == {"kept", "newer"}


def test_an_older_file_is_brought_up_to_date_in_the_copy_only(api: Api, tmp_path: Path) -> None:
    old = tmp_path / "old.db"
    with closing(sqlite3.connect(old)) as connection:
        connection.executescript(
            f"{MIGRATIONS[0]}; PRAGMA application_id = {0x4D536731}; PRAGMA user_version = 1;"
        )
    before = old.read_bytes()

    code, _, stderr = api.ran("restore", old)

    assert (code, stderr) == (0, "")
    assert api.client.get("/health/ready").status_code == 200
    assert old.read_bytes() == before


def test_a_long_read_is_waited_for_and_not_disturbed(api: Api, backup: Path) -> None:
    with closing(Database(api.path)) as database, database.reader() as reader:
        reader.execute("BEGIN")
        seen = reader.execute("SELECT count(*) FROM messages").fetchone()
        api.post(a_message(message_id="after the read began"))
        with pytest.raises(BlockingIOError, match="a long read is still running; try again later"):
            restores.restore(database, backup, timeout_s=0.1)
        assert reader.execute("SELECT count(*) FROM messages").fetchone() == seen

    assert api.run("restore", backup).exit_code == 0


@pytest.mark.parametrize("lost", [True, False], ids=["lost", "overwritten"])
def test_a_database_that_is_lost_or_damaged_is_replaced_too(
    api: Api, backup: Path, lost: bool
) -> None:
    wal = api.path.with_name("app.db-wal").read_bytes()
    if lost:
        api.path.unlink()
    else:
        api.path.write_bytes(b"x" * 10_000)
    assert api.post(a_message(message_id="refused")).status_code == 503

    assert api.run("restore", backup).exit_code == 0

    assert api.post(a_message(message_id="later")).status_code == 200
    assert api.get("/stats")["total_messages"] == 2
    assert len(replaced(api.path)) == (not lost)
    # The log of the old file, which may hold the only copy of something.
    [kept] = backup.parent.glob("*orphan" if lost else "app-replaced-*.db-wal")
    assert kept.read_bytes() == wal
    assert differences(api.path) == []


def test_under_load_every_acknowledged_message_is_in_one_of_the_files(tmp_path: Path) -> None:
    with serving(tmp_path, WEB_CONCURRENCY=2) as server:
        server.deliver_all([f"old-{number}" for number in range(5)])
        with closing(Database(server.database)) as database:
            back_up(database, tmp_path / "b.db")
        reads: set[int] = set()
        paths = ("/messages", "/messages?q=o", "/stats")
        with Load(server, "m", threads=4) as load:
            for _ in range(2):
                load.more(30)
                with command(server.database, "restore", tmp_path / "b.db") as restoring:
                    while restoring.poll() is None:
                        reads |= {server.get(path).status for path in paths}
                    stdout, stderr = restoring.communicate()
                assert (restoring.returncode, stderr) == (0, "")
                assert stdout.startswith(f"{server.database}: 5 messages, nothing differs\n")
        wait_until(lambda: server.get("/health/ready").status == 200)
        stats = server.get("/stats").json["total_messages"]
        found = server.get("/messages?q=o").json["total"]
        there = server.ids()

    assert load.failures == []
    assert set(load.statuses) == reads == {200}
    assert load.acknowledged <= all_ids(server.database)
    assert (stats, found) == (len(there), len(there))
    assert differences(server.database) == []


def test_positions_after_the_backup_are_noticed_and_older_ones_go_on(
    api: Api, tmp_path: Path
) -> None:
    def after(position: str) -> Any:
        page: Any = api.client.get(f"/messages?after={position}").json
        return page.get("code") or [one["message_id"] for one in page["data"]]

    def post(names: str) -> None:
        for name in names:
            api.post(a_message(message_id=name))

    post("abc")
    api.run("backup", tmp_path / "b.db")
    post("de")
    positions = [one["position"] for one in api.get("/messages", after="start")["data"]]

    assert api.run("restore", tmp_path / "b.db").exit_code == 0

    assert [after(one) for one in positions] == [["b", "c"], ["c"], [], "diverged", "diverged"]
    post("ed")  # delivered again, in another order
    assert [after(one) for one in positions[2:]] == [["e", "d"], "diverged", "diverged"]
    api.run("restore", tmp_path / "b.db")
    post("de")  # the same messages with the same ids, at another time
    assert [after(one) for one in positions[2:]] == [["d", "e"], "diverged", "diverged"]


@pytest.mark.parametrize(
    ("keep", "steps"), [(True, n) for n in range(1, 5)] + [(False, n) for n in range(1, 8)]
)
def test_after_a_kill_between_any_two_steps_the_service_has_one_of_the_files(
    api: Api, backup: Path, keep: bool, steps: int
) -> None:
    api.client.get("/messages")  # a pooled reader

    killed(partial(restore_until, keep=keep), api.path, backup, steps)
    first_read = api.client.get("/messages").status_code if keep else 200
    delivered = api.post(a_message(message_id="later"))

    assert (first_read, delivered.status_code) == (200, 200)
    if not keep:
        Database(api.path).prepare()
    is_new = steps >= (2 if keep else 3)
    now = stored(api.path)
    assert now == ({"kept", "later"} if is_new else {"kept", "newer", "later"})
    assert len(replaced(api.path)) == (keep and is_new)
    if keep:
        assert all_ids(api.path) == {"kept", "newer", "later"}
        assert api.get("/stats")["total_messages"] == len(now)
    else:
        assert not [*backup.parent.glob("*orphan"), *backup.parent.glob("*discarded")]
    assert differences(api.path) == []


def test_a_file_that_is_not_kept_is_deleted_with_its_log(api: Api, backup: Path) -> None:
    api.client.get("/messages")  # a pooled reader

    def make(new: Path) -> None:
        shutil.copyfile(backup, new)

    with closing(Database(api.path)) as database:
        assert replacing.replace(database, make, keep=False) is None

    files = {file.name for file in backup.parent.iterdir()}
    assert files == {"b.db", "app.db", "app.db.lock", "app.db.names.lock", "app.db.last-backup"}
    assert api.get("/stats")["total_messages"] == 1
    assert api.post(a_message(message_id="later")).status_code == 200


def with_sql(sql: str) -> Callable[[Path], None]:
    def harm(file: Path) -> None:
        with closing(sqlite3.connect(file)) as db:
            db.executescript(sql)

    return harm


def _foreign(file: Path) -> None:
    file.unlink()
    with_sql("CREATE TABLE letters (x)")(file)


def _one_page_lost(file: Path) -> None:
    with file.open("r+b") as content:
        content.seek(4096)
        content.write(bytes(4096))


@pytest.mark.parametrize(
    ("harm", "complaint"),
    [
        (lambda file: file.write_bytes(random.Random(1).randbytes(100_000)), "is no database of"),
        (_foreign, "is no database of this service"),
        (lambda file: file.write_bytes(b""), "is no database of this service"),
        (with_sql(f"PRAGMA user_version = {SCHEMA_VERSION + 1}"), "written by a newer version"),
        (lambda file: os.truncate(file, file.stat().st_size // 2), "disk image is malformed"),
        (_one_page_lost, "database disk image is malformed"),
        (lambda file: file.unlink(), "No such file or directory"),
    ],
)
def test_a_damaged_or_foreign_file_is_refused(
    api: Api, backup: Path, harm: Callable[[Path], None], complaint: str
) -> None:
    harm(backup)
    before = {file.name for file in backup.parent.iterdir()}

    code, stdout, stderr = api.ran("restore", backup)

    assert (code, stdout, stderr.count("\n")) == (1, "", 1)
    assert stderr.startswith(f"Error: {backup}: ")
    assert complaint in stderr
    assert {file.name for file in backup.parent.iterdir()} == before
    assert stored(api.path) == {"kept", "newer"}


@pytest.mark.parametrize("name", ["app.db", "link.db", "hard.db"])
def test_the_database_itself_and_a_source_without_end_are_refused(
    api: Api, backup: Path, name: str
) -> None:
    file = backup.parent / name
    if name != "app.db":
        (file.symlink_to if name == "link.db" else file.hardlink_to)(api.path)

    assert api.ran("restore", file) == (1, "", f"Error: {file}: is the database itself\n")
    endless = api.run("restore", "/dev/zero").stderr

    assert api.post(a_message(message_id="m2")).status_code == 200
    assert endless == "Error: /dev/zero: is no database of this service\n"
    assert not list(backup.parent.glob("*.restored*"))


def _no_space(*_files: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("from_stdin", [True, False])
@pytest.mark.parametrize(
    ("part", "fail", "says"),
    [
        ("run_in_parallel", failing(sqlite3.SQLITE_FULL), "of a test"),
        ("_copy_bytes", _no_space, "No space left on device"),
        # Even the smallest file needs space: else SQLite would report an I/O error of the file.
        ("shutil.disk_usage", None, "no space for"),
    ],
    ids=["checking", "copying", "at first"],
)
def test_a_full_disk_is_named_and_leaves_the_database(
    api: Api, backup: Path, monkeypatch: pytest.MonkeyPatch, from_stdin: bool, part: str,
    fail: object, says: str,
) -> None:  # fmt: skip
    if fail:
        monkeypatch.setattr(restores, part, fail)
    else:
        free = 0 if from_stdin else backup.stat().st_size + 50_000
        monkeypatch.setattr(part, lambda _folder: SimpleNamespace(free=free))

    code, _, stderr = api.ran("restore", "-" if from_stdin else backup, stdin=backup.read_bytes())

    assert (code, stderr.count("\n")) == (1, 1)
    assert says in stderr
    assert not fail or re.match(r"Error: .*/app\.db\.restored\.\w{8}\.partial: ", stderr)
    assert stored(api.path) == {"kept", "newer"}
    assert not list(backup.parent.glob("*.restored*"))


# A file that somebody else has made: `restore`, `verify` and a start do not trust it.
NEVER_CHANGED = "DROP TRIGGER messages_are_final;"
AGAIN = f"CREATE TRIGGER {MIGRATIONS[0].split('CREATE TRIGGER ')[1].split('END;')[0]}END;"
REMOVES = "CREATE TRIGGER evil AFTER INSERT ON messages BEGIN DELETE FROM messages; END"
COPIES = (
    "CREATE TABLE aside (a, b); CREATE TRIGGER evil AFTER INSERT ON messages BEGIN"
    " INSERT INTO aside VALUES (new.from_msisdn, new.text); END"
)


def changed(column: str, value: str) -> str:
    return f"{NEVER_CHANGED} UPDATE messages SET {column} = {value}; {AGAIN}"


# What was done to the file, and what `restore` and `verify` say.
FOREIGN = {
    "a wrong counter": ("UPDATE totals SET messages = 7",
                        ["totals messages: kept is 7, should be 1"]),
    "a trigger that removes": (REMOVES, ["schema: trigger evil is not of this service"]),
    "a trigger that copies": (COPIES, ["schema: table aside is not of this service",
                                       "schema: trigger evil is not of this service"]),
    "a trigger of ours that does more": (
        "DROP TRIGGER count_sender; CREATE TRIGGER count_sender AFTER INSERT ON senders BEGIN"
        " UPDATE totals SET senders = senders + 1; DELETE FROM messages; END",
        ["schema: trigger count_sender is changed"]),
    "planted statistics": ("CREATE TABLE t (x); ANALYZE; DROP TABLE t",
                           ["schema: table sqlite_stat1 is not of this service"]),
    "an index that sends queries elsewhere": (
        "CREATE INDEX i ON messages (lower(text))", ["schema: index i is not of this service"]),
    "bytes that are not UTF-8": (changed("to_msisdn", "CAST(x'2bff' AS TEXT)"),
                                 ["messages: Could not decode to UTF-8 column 'to_msisdn'"]),
    "no id": (changed("message_id", "''"), ["messages: message_id of row 1 cannot be used"]),
    "a long text": (changed("text", "printf('%5000s', 'x'), folded = NULL"),
                    ["messages: text of row 1 cannot be used"]),
    "a time of arrival that never comes": (
        changed("created_at", "'z'"), ["messages: created_at of row 1 cannot be used"]),
    "a time that is none": (
        changed("ts", "'2025-02-30T10:00:00Z'"),
        ["instant kept: kept is 1736935200 s 0 ns, should be 2025-02-30T10:00:00Z"]),
    "the last of all ids": (changed("id", str(2**63 - 1)),
                            ["messages: id of row 9223372036854775807 cannot be used"]),
    "the last of all ids, as used": (f"UPDATE sqlite_sequence SET seq = {2**63 - 1}",
                                     ["sqlite_sequence: seq cannot be used"]),
    "a short tombstone": ("INSERT INTO tombstones VALUES (x'00')",
                          ["tombstones: digest cannot be used"]),
    "another key": ("UPDATE totals SET tombstone_key = x'00'",
                    ["totals: tombstone_key cannot be used"]),
}  # fmt: skip


def put_in_place(file: Path, database: Path) -> None:
    """Do what an operator does without `restore`."""
    file.replace(database)
    for ending in ("-wal", "-shm"):
        database.with_name(database.name + ending).unlink()


@pytest.mark.parametrize(("sql", "said"), FOREIGN.values(), ids=FOREIGN)
def test_restore_refuses_a_foreign_file_and_verify_names_what_is_wrong(
    api: Api, backup: Path, sql: str, said: list[str]
) -> None:
    with_sql(sql)(backup)

    code, stdout, stderr = api.ran("restore", backup)
    left = stored(api.path)
    put_in_place(backup, api.path)
    verified = api.run("verify")

    told = stdout or stderr.removeprefix(f"Error: {backup}: ").replace("Could", "messages: Could")
    assert (code, told.splitlines(), left) == (1, said, {"kept", "newer"})
    assert verified.exit_code == 1
    assert verified.stdout.splitlines()[: len(said)] == said


@pytest.mark.parametrize("sql", [REMOVES, COPIES, "DROP TRIGGER count_message"])
def test_the_service_does_not_write_a_file_with_a_trigger_of_somebody_else(
    api: Api, backup: Path, sql: str
) -> None:
    with_sql(sql)(backup)
    put_in_place(backup, api.path)

    assert api.post(a_message(message_id="later")).status_code == 503
    with pytest.raises(StartError, match=r"trigger \w+ is (not of this service|missing)"):
        prepare_database(Database(api.path))


def test_a_file_in_utf_16_is_refused(api: Api, backup: Path) -> None:
    with closing(sqlite3.connect(backup)) as db, closing(sqlite3.connect(":memory:")) as other:
        other.execute("PRAGMA encoding = 'UTF-16le'")
        for sql in MIGRATIONS:
            other.executescript(sql)
        for pragma in ("application_id", "user_version"):
            (value,) = db.execute(f"PRAGMA {pragma}").fetchone()
            other.execute(f"PRAGMA {pragma} = {value}")
        backup.unlink()
        other.execute("VACUUM INTO ?", [str(backup)])

    code, stdout, _ = api.ran("restore", backup)

    assert (code, stdout) == (1, "schema: the encoding is UTF-16le, should be UTF-8\n")


def test_only_rows_are_taken_from_it(api: Api, backup: Path) -> None:
    """Not what is derived from them: the search index, counts, folded texts, and free pages."""
    with_sql(
        changed("folded", "'planted'")
        + "INSERT INTO messages_search (messages_search) VALUES ('delete-all');"
        " UPDATE characters SET messages = 7; DELETE FROM periods; DELETE FROM sender_periods;"
        " PRAGMA secure_delete = OFF; CREATE TABLE secret (x);"
        " INSERT INTO secret VALUES (printf('%9000s', 'left in a free page'));"
        " DROP TABLE secret"
    )(backup)
    assert b"left in a free page" in backup.read_bytes()

    assert api.run("restore", backup).exit_code == 0

    assert [api.get("/messages", q=q)["total"] for q in ("planted", "first")] == [0, 1]
    assert b"left in a free page" not in api.path.read_bytes()
    assert differences(api.path) == []


@pytest.mark.parametrize("left", ["one", "none"])
def test_what_is_known_of_removed_messages_comes_with_it(api: Api, backup: Path, left: str) -> None:
    for message_id in ["a", "b"]:
        api.post(a_message(message_id=message_id, sender="+49"))
    api.run("forget", "+49")
    if left == "none":
        api.run("forget", a_message()["from"])
    api.run("backup", backup)

    assert api.run("restore", backup).exit_code == 0
    repeat = api.post(a_message(message_id="a", sender="+49"))
    api.post(a_message(message_id="later"))

    assert repeat.status_code == 200
    assert stored(api.path) == {"later", *ids(backup)}
    assert removed(api.path, "a", "b", "c") == {"a", "b"}
    assert api.rows("SELECT max(id) FROM messages")[0][0] >= 5
    assert api.rows("SELECT deletions FROM totals")[0][0] >= 2
    assert differences(api.path) == []
