"""A command that cannot do what it is told says why in one line; what each starts with."""

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from flask import Flask

from tests.builders import SECRET, a_message
from tests.cli.running import environment, forked, some_messages, start_in_a_shell
from tests.conftest import Api
from tests.serving import ROOT, inherited
from tests.store.files import stored
from webhook_api.cli.command import describe
from webhook_api.config import Config
from webhook_api.intake.signature import sign
from webhook_api.maintenance.removal import removal_lock
from webhook_api.store.database import Database

OWN = "is a file of the database itself"
ABOVE_0 = "is not a whole number above 0"
NO_URL = "accepted are http:// and https:// URLs"
# What each command is told, and what it says; the files are those of `files` below.
WRONG: dict[str, list[tuple[list[str], str]]] = {
    "backup": [
        *((["app.db" + ending], OWN) for ending in (
            "-wal", "-shm", ".lock", ".restored", ".discarded", ".compacting",
            ".restored.abcdefgh.partial",
        )),
        *(([name], "is the database itself") for name in ("app.db", "link.db", "hard.db")),
        (["./"], "is a folder: --keep keeps dated backups in it"),
        (["letter.txt"], "exists, and is no backup of this service"),
        (["missing/b.db"], "No such file or directory"),
        *((["--keep", keep, "backups"], "--keep") for keep in ("0", "-1", "many", "1.5")),
    ],
    "export": [
        (["app.db"], "is the database itself"), (["app.db-wal"], OWN), (["app.db.restored"], OWN),
        (["--since", "today"],
         "since: Input should be an ISO 8601 time, such as 2025-01-15T09:30:00Z or 2025-01-15"),
    ],
    "forget": [
        *((["--", number], "is no number, as in +919876543210") for number in (
            "", "+", "4915112345678", "+49 151", "+49x", "+٤٩", "+49\n", "-5", "%", "++49",
        )),
    ],
    "import": [
        (["/nowhere/file"], "/nowhere/file: No such file or directory"),
        (["/"], "/: Is a directory"),
    ],
    "prune": [
        (["--older-than=90"], "has no unit"), (["--older-than="], "has no unit"),
        (["--older-than=0s"], "has an unknown unit"), (["--older-than=90m"], "has an unknown unit"),
        *(([f"--older-than={text}"], ABOVE_0) for text in ("-90d", "0d", "1.5d", "ninetyd", "٣d")),
        (["--older-than=9999999w"], "is before the year 1"),
        ([f"--older-than={'9' * 5000}d"], "is before the year 1"),
    ],
    "send": [
        (["--file", "-", "--count", "5"],
         "--count is for samples: it cannot be used with --file"),
        *((["--url", url], f"--url is {url!r}: {NO_URL}") for url in (
            "ftp://host/", "localhost:8000", "http://", "http://[", "http://h:x",
        )),
        (["--as", "meta"], "META_APP_SECRET is not set"),
        (["--as", "twilio"], "TWILIO_AUTH_TOKEN is not set"),
        (["--as", "standard"], "STANDARD_WEBHOOKS_SECRET is not set"),
    ],
    "sign": [(["/nowhere/file"], "/nowhere/file: No such file or directory")],
}  # fmt: skip
IN_FOLDER = ("app.db", "link.db", "hard.db", "./", "letter.txt", "missing/b.db", "backups")


@pytest.fixture
def folder(api: Api) -> Path:
    """The folder of the database, with files beside it that no command may replace."""
    api.post(a_message())
    folder = api.path.parent
    (folder / "link.db").symlink_to(api.path)
    (folder / "hard.db").hardlink_to(api.path)
    (folder / "letter.txt").write_text("Dear reader")
    return folder


@pytest.mark.parametrize(
    ("command", "arguments", "says"),
    [(name, *case) for name, cases in WRONG.items() for case in cases],
    ids=lambda value: str(value)[:40],
)
def test_what_a_command_cannot_do_is_one_line(
    api: Api, folder: Path, command: str, arguments: list[str], says: str
) -> None:
    before = {file.name for file in folder.iterdir()}
    given = [f"{folder}/{one}" if one.startswith(IN_FOLDER) else one for one in arguments]

    result = api.run(command, *given)

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1
    assert says in result.stderr
    assert {file.name for file in folder.iterdir()} - {"app.db.names.lock"} == before
    assert (folder / "letter.txt").read_text() == "Dear reader"
    assert api.post(a_message(message_id="m2")).status_code == 200


NONE_THERE = "No such file or directory"
CREATE_IT = "there is none; flask --app wsgi init-db creates it"


@pytest.mark.parametrize(
    ("command", "gone", "garbage"),
    [
        (["verify"], NONE_THERE, "file is not a database"),
        (["export"], NONE_THERE, "file is not a database"),
        (["import", "-"], CREATE_IT, "file is not a database"),
        (["forget", "+1"], NONE_THERE, None),
        (["prune", "--older-than", "1d"], NONE_THERE, None),
        (["init-db"], None, "file is not a database"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_no_database_or_another_file_in_its_place_is_one_line(
    api: Api, command: list[str], gone: str | None, garbage: str | None
) -> None:
    path = api.path
    for content, says in ((None, gone), (b"garbage, but longer than a header" * 100, garbage)):
        if says is None:
            continue
        path.unlink() if content is None else path.write_bytes(content)

        result = api.run(*command, stdin=some_messages(1))

        assert (result.exit_code, result.output) == (1, f"Error: database {path}: {says}\n")
        assert path.exists() is (content is not None)


@pytest.mark.usefixtures("talk")
def test_two_that_remove_at_once_are_one_line(api: Api) -> None:
    removals = (["forget", "+1"], ["prune", "--older-than", "1d"],
                ["prune", "--older-than", "1d", "--compact"])  # fmt: skip
    with closing(Database(api.path)) as database, removal_lock(database):
        busy = [api.run(*arguments) for arguments in removals]

    assert [(one.exit_code, one.output) for one in busy] == [
        (1, "Error: another process is removing messages\n")
    ] * 3
    assert stored(api.path) == {"from", "to", "other"}


def test_a_file_of_another_user_says_which_right_is_missing(app: Flask, config: Config) -> None:
    path = config.database_path
    with (
        closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db,
        pytest.raises(sqlite3.OperationalError) as raised,
    ):
        db.execute("DELETE FROM totals")

    with app.app_context():
        assert describe(raised.value) == (
            f"database {path}: attempt to write a readonly database;"
            f" also to read it, user {os.getuid()} needs the right to write in its folder"
        )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("export >&-", b"Error: stdout is closed\n"),
        ("import - <&-", b"Error: stdin: is closed\n"),
    ],
)
@pytest.mark.usefixtures("app")
def test_a_closed_stream_is_one_line(config: Config, arguments: str, says: bytes) -> None:
    done = subprocess.run(
        ["sh", "-c", f"exec {sys.executable} -m flask --app wsgi {arguments}"],
        cwd=ROOT,
        env={**inherited(), "FLASK_SKIP_DOTENV": "1", **environment(config.database_path)},
        stderr=subprocess.PIPE,
        check=False,
    )

    assert (done.returncode, done.stderr) == (1, says)


@pytest.mark.usefixtures("app")
@pytest.mark.parametrize("arguments", [["restore", "-"], ["sign", "-"], ["send", "--file", "-"]])
def test_no_command_reads_a_closed_stdin(config: Config, arguments: list[str]) -> None:
    done = forked(*arguments, stdin_closed=True, **environment(config.database_path))

    assert done == (1, "", "Error: stdin: is closed\n")


def test_sign_makes_no_database_and_prints_the_signature_alone(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/new/app.db"

    settings = {"WEBHOOK_SECRET": SECRET, "DATABASE_URL": url, "LOG_LEVEL": "DEBUG"}
    with start_in_a_shell("sign", **settings) as signing:
        stdout, stderr = signing.communicate(b"body")

    assert (signing.returncode, stderr) == (0, b"")
    assert stdout == sign(SECRET, b"body").encode() + b"\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", [[], ["send"], ["export"], ["dead-letters", "show"]])
@pytest.mark.parametrize("port", ["", "none"])
def test_help_needs_no_setting(command: list[str], port: str) -> None:
    status, stdout, stderr = forked(*command, "--help", PORT=port)

    assert (status, stderr) == (0, "")
    assert stdout.startswith("Usage: ")
    assert command or "\n  send " in stdout


def test_a_missing_setting_is_one_line() -> None:
    assert forked("verify") == (
        1,
        "",
        "Error: WEBHOOK_SECRET is not set: give it the secret shared with the provider\n",
    )


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
    for file in api.path.parent.glob(lost):
        file.unlink()
    refused = api.post(a_message())

    # By another process: what one process has open, SQLite knows there.
    code, _, stderr = forked("init-db", **environment(api.path))

    assert (refused.status_code, code, stderr) == (503, 0, "")
    assert api.post(a_message()).status_code == 200
    assert api.rows("SELECT message_id FROM messages") == [("m1",)]
    assert api.client.get("/messages").get_json()["total"] == 1
    assert api.rows("PRAGMA integrity_check") == [("ok",)]


def test_init_db_keeps_the_wal_of_a_file_that_is_gone(api: Api) -> None:
    api.post(a_message())
    wal = api.path.with_name("app.db-wal")
    written = wal.read_bytes()
    api.path.unlink()

    api.run("init-db")

    assert wal.with_name("app.db-wal.orphan").read_bytes() == written != b""
