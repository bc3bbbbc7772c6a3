"""`flask --app wsgi import`: each line is stored once, or named."""

import signal
import sqlite3
import threading
from pathlib import Path

import pytest

from tests.builders import a_message
from tests.cli.running import (
    as_lines,
    command,
    environment,
    some_messages,
    start_in_a_shell,
)
from tests.conftest import Api
from tests.serving import wait_until
from webhook_api import close_app, create_app
from webhook_api.config import Config


def test_import_takes_what_earlier_versions_have_stored(api: Api) -> None:
    long = a_message(message_id="x" * 3000, sender="+" + "1" * 500, to="+" + "2" * 500)

    result = api.run("import", "-", stdin=as_lines(long, a_message(message_id="meta:wamid.1")))

    assert result.stdout.startswith("created 2, ")
    assert api.rows("SELECT message_id FROM messages ORDER BY id") == [
        ("x" * 3000,),
        ("meta:wamid.1",),
    ]


def test_import_takes_half_an_emoji_in_a_text(api: Api) -> None:
    result = api.run("import", "-", stdin=as_lines(a_message(text="xoxo \ud83d")))

    assert result.exit_code == 0
    assert api.rows("SELECT text FROM messages") == [("xoxo \ufffd",)]


@pytest.mark.parametrize(
    ("ids", "created", "duplicate", "other"),
    [("ab", 2, 0, 0), ("abab", 2, 2, 0), ("aAba", 2, 2, 1), ("", 0, 0, 0)],
)
def test_import_stores_each_message_once_and_keeps_the_first(
    api: Api, ids: str, created: int, duplicate: int, other: int
) -> None:
    api.post(a_message(message_id="old"))
    messages = [a_message(message_id=id_.lower(), text=id_) for id_ in ids]

    first = api.run("import", "-", stdin=as_lines(*messages))
    again = api.run("import", "-", stdin=as_lines(a_message(message_id="old", text="other")))

    counts = f"created {created}, duplicate {duplicate} (with other content {other}), bad 0\n"
    assert (first.exit_code, first.stdout) == (0, counts)
    assert again.stdout == "created 0, duplicate 1 (with other content 1), bad 0\n"
    assert api.rows("SELECT message_id, text FROM messages ORDER BY id") == [
        ("old", "Hello"), *((id_, id_) for id_ in "ab"[:created])
    ]  # fmt: skip


def test_import_names_each_bad_line_and_stores_the_others(api: Api) -> None:
    lines = [
        as_lines(a_message(message_id="good")),
        b"\n",
        b"{not json}\n",
        as_lines(a_message(message_id="", ts="2025-02-30T00:00:00Z")),
        b"[]\r\n",
        b'{"message_id":"\xff"}\n',
        b"[" * 20_000 + b"\n",
        as_lines(a_message(message_id="last")).strip(),
    ]

    result = api.run("import", "-", stdin=b"".join(lines))

    assert result.exit_code == 1
    assert result.stdout == "created 2, duplicate 0 (with other content 0), bad 5\n"
    reported = result.stderr.splitlines()
    assert [line.partition(": ")[0] for line in reported] == [f"line {n}" for n in range(3, 8)]
    assert reported[1] == (
        "line 4: message_id: String should have at least 1 character;"
        " ts: Input should be a real date and time: day is out of range for month"
    )
    assert max(map(len, reported)) < 250
    assert api.rows("SELECT message_id FROM messages ORDER BY id") == [("good",), ("last",)]


def test_import_skips_a_line_that_is_too_long_without_keeping_it_in_memory(api: Api) -> None:
    app = create_app(Config(**{**vars(api.config), "max_body_bytes": 200}))
    lines = b"x" * 1201 + b"\n" + as_lines(a_message()) + b"x" * 5000 + b"\n" + b"x" * 1199 + b"\n"

    result = app.test_cli_runner().invoke(args=["import", "-"], input=lines)

    close_app(app)
    assert result.stdout == "created 1, duplicate 0 (with other content 0), bad 3\n"
    assert result.stderr.splitlines()[:2] == [
        "line 1: the line is too long",
        "line 3: the line is too long",
    ]
    assert result.stderr.splitlines()[2].startswith("line 4: Invalid JSON: expected value")


def test_import_takes_files_of_many_batches(api: Api, tmp_path: Path) -> None:
    file = tmp_path / "messages.ndjson"
    file.write_bytes(some_messages(4500))

    result = api.run("import", file)

    assert result.stdout == "created 4500, duplicate 0 (with other content 0), bad 0\n"
    assert api.rows("SELECT messages, indexed FROM totals") == [(4500, 4500)]


def test_a_dry_run_checks_every_line_and_stores_nothing(api: Api) -> None:
    result = api.run("import", "--dry-run", "-", stdin=some_messages(3) + b"{}\n")

    assert (result.exit_code, result.stdout) == (1, "valid 3, bad 1; nothing was stored\n")
    assert api.rows("SELECT count(*) FROM messages") == [(0,)]


def test_deliveries_and_an_import_go_on_at_the_same_time(api: Api, tmp_path: Path) -> None:
    file = tmp_path / "messages.ndjson"
    file.write_bytes(some_messages(2000))
    statuses: list[int] = []

    with command(api.config.database_path, "import", file) as importing:
        while importing.poll() is None:
            message_id = f"m{len(statuses) * 7 % 2000}"
            statuses.append(api.post(a_message(message_id=message_id)).status_code)

    assert importing.returncode == 0
    assert set(statuses) == {200}
    assert api.rows("SELECT count(*) FROM messages") == [(2000,)]
    assert api.run("verify").exit_code == 0


def test_import_waits_for_a_program_that_locks_the_database(api: Api) -> None:
    other = sqlite3.connect(api.config.database_path, check_same_thread=False, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    release = threading.Timer(0.3, other.rollback)

    release.start()
    result = api.run("import", "-", stdin=some_messages(1))

    release.join()
    other.close()
    assert result.stdout.startswith("created 1,")


def test_import_stopped_by_ctrl_c_says_what_it_stored(api: Api) -> None:
    with start_in_a_shell("import", "-", **environment(api.config.database_path)) as importing:
        assert importing.stdin is not None
        importing.stdin.write(some_messages(2500))
        importing.stdin.flush()
        wait_until(lambda: api.rows("SELECT count(*) FROM messages") == [(2000,)], 30)

        importing.send_signal(signal.SIGINT)
        stdout, stderr = importing.communicate()

    assert (importing.returncode, stderr) == (130, b"")
    assert stdout == b"stopped; created 2000, duplicate 0 (with other content 0), bad 0\n"
