"""`export` and `import`: all messages or some, without loss; each line is stored once, or named."""

import json
import re
import resource
import signal
import sqlite3
import threading
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from tests.builders import a_message
from tests.cli.running import (
    ODD_TEXTS,
    as_lines,
    environment,
    limited,
    some_messages,
    start_in_a_shell,
)
from tests.conftest import Api
from tests.serving import wait_until
from webhook_api import close_app, create_app
from webhook_api.config import Config
from webhook_api.start import StartError, prepare_database
from webhook_api.store.database import Database

NUMBERED = [
    a_message(message_id=f"\0{number} \U0001f600", text=text, ts=f"2025-01-15T10:00:00.{number}Z")
    for number, text in enumerate(ODD_TEXTS, start=1)
]
ADDRESSES = [
    a_message(message_id="meta:1", sender="US.1349", to="106540352242922"),
    a_message(message_id="twilio:SM1", sender="SUPPORT", text="xoxo \ufffd"),
]
KEPT = {
    **a_message(message_id="meta:1"),
    "provider": "meta", "kind": "image", "payload": {"id": "1", "é": [1.5, None, "\u200e"]},
}  # fmt: skip
BARE = {**a_message(message_id="twilio:1"), "provider": "twilio", "kind": None, "payload": None}
ODD = {**a_message(message_id="standard:1"), "kind": 7, "payload": [], "provider": 5}


@pytest.mark.parametrize(
    ("given", "exported"),
    [(NUMBERED, NUMBERED), (ADDRESSES, None),
     ([KEPT, BARE, ODD], [KEPT, BARE, {**ODD, "provider": "standard", "kind": None}])],
    ids=["odd texts", "addresses that are no numbers", "what a provider sent"],
)  # fmt: skip
def test_an_export_is_imported_without_loss(
    api: Api, elsewhere: Flask, given: list[dict[str, Any]], exported: list[dict[str, Any]] | None
) -> None:
    def other(*args: str, stdin: bytes | None = None) -> Any:
        return elsewhere.test_cli_runner().invoke(args=list(args), input=stdin)

    assert api.run("import", "-", stdin=as_lines(*given)).exit_code == 0
    lines = api.run("export").stdout_bytes

    assert other("import", "-", stdin=lines).exit_code == 0
    assert other("export").stdout_bytes == lines
    found = {one["message_id"]: one for one in map(json.loads, lines.split(b"\n")[:-1])}
    assert exported is None or found == {one["message_id"]: one for one in exported}
    if KEPT in given:
        shown: Any = elsewhere.test_client().get("/messages/meta:1").json
        assert {
            name: shown[name] for name in ("provider", "kind", "payload")
        }.items() <= KEPT.items()


def test_an_import_takes_no_address_for_a_message_of_nobody(api: Api) -> None:
    assert api.run("import", "-", stdin=as_lines(a_message(to="x"))).exit_code == 1


def test_export_writes_each_line_no_longer_than_the_body_was(api: Api) -> None:
    body = json.dumps(a_message(text="\0é😀"), ensure_ascii=False).encode()
    api.post(body)

    assert api.run("export").stdout_bytes == body + b"\n"


def test_export_to_a_file_leaves_stdout_alone_and_a_failure_the_older_file(
    api: Api, tmp_path: Path
) -> None:
    file = tmp_path / "out.ndjson"
    api.run("import", "-", stdin=some_messages(3))

    assert api.ran("export", file) == (0, "", "exported 3\n")
    before = file.read_bytes()
    with limited(resource.RLIMIT_FSIZE, 200):  # as on a full disk: it needs more
        assert api.ran("export", file) == (1, "", "Error: File too large\n")

    assert file.read_bytes() == before
    assert before.count(b"\n") == 3
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], ["early", "late", "other"]),
        (["--from", "+1"], ["early", "late"]),
        (["--from", " 1"], ["early", "late"]),
        (["--since", "2025-01-15T10:00:00Z"], ["late", "other"]),
        (["--q", "ÉCOLE"], ["late", "other"]),
        (["--q", "ÉCOLE", "--from", "+1", "--since", "2025-01-15T10:00:00Z"], ["late"]),
        (["--until", "2025-01-15T10:00:01Z"], ["early", "late"]),
        (["--to", "+9"], ["other"]),
        (["--to", " 9", "--from", "+1"], []),
        (["--provider", "webhook", "--q", "école"], ["late", "other"]),
        (["--provider", "meta"], []),
        (["--message-id", "late"], ["late"]),
        (["--q", "", "--from", "", "--to", "", "--message-id", ""], ["early", "late", "other"]),
    ],
)
def test_export_filters_as_the_api_does(api: Api, options: list[str], expected: list[str]) -> None:
    early = a_message(message_id="early", sender="+1", ts="2025-01-15T09:59:59.9Z", text=None)
    late = a_message(message_id="late", sender="+1", text="école")
    other = a_message(
        message_id="other", sender="+2", to="+9", ts="2025-01-15T10:00:01Z", text="À l'école"
    )
    api.run("import", "-", stdin=as_lines(early, late, other))

    lines = api.run("export", *options).stdout.splitlines()

    assert [json.loads(line)["message_id"] for line in lines] == expected


def test_export_ends_without_a_message_when_its_reader_ends(api: Api) -> None:
    # More than a pipe holds.
    texts = (a_message(message_id=f"{number:03}", text="x" * 4096) for number in range(100))
    api.run("import", "-", stdin=as_lines(*texts))

    with start_in_a_shell("export", **environment(api.path)) as exporting:
        assert exporting.stdout is not None
        assert exporting.stderr is not None
        first = exporting.stdout.readline()
        exporting.stdout.close()
        complaint = exporting.stderr.read()

    assert json.loads(first)["message_id"] == "000"
    assert complaint == b""


def test_import_takes_what_earlier_versions_have_stored_and_half_an_emoji(api: Api) -> None:
    long = a_message(message_id="x" * 3000, sender="+" + "1" * 500, to="+" + "2" * 500)
    cut = a_message(message_id="meta:wamid.1", text="xoxo \ud83d")

    result = api.run("import", "-", stdin=as_lines(long, cut))

    assert result.stdout.startswith("created 2, ")
    assert api.rows("SELECT message_id, text FROM messages ORDER BY id") == [
        ("x" * 3000, "Hello"), ("meta:wamid.1", "xoxo \ufffd"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("ids", "created", "duplicate", "other"),
    [("ab", 2, 0, 0), ("abab", 2, 2, 0), ("aAba", 2, 2, 1), ("", 0, 0, 0)],
)
def test_import_stores_each_message_once_and_keeps_the_first(
    api: Api, ids: str, created: int, duplicate: int, other: int
) -> None:
    api.post(a_message(message_id="old"))
    messages = [a_message(message_id=id_.lower(), text=id_) for id_ in ids]

    first = api.ran("import", "-", stdin=as_lines(*messages))
    again = api.run("import", "-", stdin=as_lines(a_message(message_id="old", text="other")))

    counts = f"created {created}, duplicate {duplicate} (with other content {other}), bad 0\n"
    assert first[:2] == (0, counts)
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

    code, stdout, stderr = api.ran("import", "-", stdin=b"".join(lines))

    assert (code, stdout) == (1, "created 2, duplicate 0 (with other content 0), bad 5\n")
    reported = stderr.splitlines()
    assert [line.partition(": ")[0] for line in reported] == [f"line {n}" for n in range(3, 8)]
    assert reported[1] == (
        "line 4: message_id: String should have at least 1 character;"
        " ts: Input should be a real date and time: day is out of range for month"
    )
    assert max(map(len, reported)) < 250
    assert api.rows("SELECT message_id FROM messages ORDER BY id") == [("good",), ("last",)]


def test_import_skips_a_line_that_is_too_long_without_keeping_it_in_memory(config: Config) -> None:
    Database(config.database_path).prepare(create=True)
    app = create_app(replace(config, max_body_bytes=200))
    lines = b"x" * 1201 + b"\n" + as_lines(a_message()) + b"x" * 5000 + b"\n" + b"x" * 1199 + b"\n"

    result = app.test_cli_runner().invoke(args=["import", "-"], input=lines)

    close_app(app)
    assert result.stdout == "created 1, duplicate 0 (with other content 0), bad 3\n"
    first, second, third = result.stderr.splitlines()
    assert (first, second) == (
        "line 1: the line is too long", "line 3: the line is too long",
    )  # fmt: skip
    assert third.startswith("line 4: Invalid JSON: expected value")


def test_import_takes_files_of_many_batches_and_a_dry_run_stores_nothing(
    api: Api, tmp_path: Path
) -> None:
    file = tmp_path / "messages.ndjson"
    file.write_bytes(some_messages(4500))

    dry = api.ran("import", "--dry-run", "-", stdin=some_messages(3) + b"{}\n")
    before = api.rows("SELECT count(*) FROM messages")
    result = api.run("import", file)

    assert dry[:2] == (1, "valid 3, bad 1; nothing was stored\n")
    assert before == [(0,)]
    assert result.stdout == "created 4500, duplicate 0 (with other content 0), bad 0\n"
    assert api.rows("SELECT messages, indexed FROM totals") == [(4500, 4500)]


def test_import_waits_for_a_program_that_locks_the_database(api: Api) -> None:
    other = sqlite3.connect(api.path, check_same_thread=False, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    release = threading.Timer(0.3, other.rollback)

    release.start()
    result = api.run("import", "-", stdin=some_messages(1))

    release.join()
    other.close()
    assert result.stdout.startswith("created 1,")


def test_import_stopped_by_ctrl_c_says_what_it_stored(api: Api) -> None:
    with start_in_a_shell("import", "-", **environment(api.path)) as importing:
        assert importing.stdin is not None
        importing.stdin.write(some_messages(2500))
        importing.stdin.flush()
        wait_until(lambda: api.rows("SELECT count(*) FROM messages") == [(2000,)])

        importing.send_signal(signal.SIGINT)
        stdout, stderr = importing.communicate()

    assert (importing.returncode, stderr) == (130, b"")
    assert stdout == b"stopped; created 2000, duplicate 0 (with other content 0), bad 0\n"


# --from-sqlite: the file of another implementation is brought in.
SPECIFIED = """
    CREATE TABLE IF NOT EXISTS messages (
        message_id TEXT PRIMARY KEY, from_msisdn TEXT NOT NULL, to_msisdn TEXT NOT NULL,
        ts TEXT NOT NULL, text TEXT, created_at TEXT NOT NULL
    );
"""
MIB = 1024 * 1024


def foreign(folder: Path, *payloads: dict[str, Any], schema: str = SPECIFIED) -> Path:
    """Make a file with the specification's table, or another `schema`, and these messages."""
    path = folder / "foreign.db"
    with closing(sqlite3.connect(path)) as db, db:
        db.executescript(schema)
        for payload in payloads:
            db.execute("INSERT INTO messages VALUES (?, ?, ?, ?, ?, '2025')", [*payload.values()])
    return path


def test_the_rows_of_the_specifications_table_are_stored_once(api: Api, tmp_path: Path) -> None:
    messages = [a_message(message_id=f"m{n}", text=text) for n, text in enumerate(ODD_TEXTS)]
    file = foreign(tmp_path, *messages, a_message(message_id="there", text="second"))
    content, count = file.read_bytes(), len(messages)
    api.post(a_message(message_id="there"))

    first, second = (api.ran("import", "--from-sqlite", file) for _ in range(2))

    assert first == (0, f"created {count}, duplicate 1 (with other content 1), bad 0\n", "")
    assert second[1] == f"created 0, duplicate {count + 1} (with other content 1), bad 0\n"
    assert api.get("/messages")["data"] == [*messages, a_message(message_id="there")]
    assert file.read_bytes() == content


BAD_ROWS: list[tuple[dict[str, object], str]] = [
    ({"message_id": None}, "message_id: Input should be a valid string"),
    ({"message_id": ""}, "message_id: String should have at least 1 character"),
    ({"from": "919876543210"}, "from: String should match pattern"),
    ({"to": b"\xff"}, "to: Input should be a valid string"),
    ({"ts": "2025-01-15 10:00:00"}, "ts: Input should be a UTC timestamp"),
    ({"ts": 1736935200}, "ts: Input should be a UTC timestamp"),
    ({"text": 5}, "text: Input should be a valid string"),
    ({"text": "x" * 4097}, "text: String should have at most 4096 characters"),
    ({"text": "x" * (2 * MIB)}, "string or blob too big"),
]


def test_each_bad_row_is_named_and_the_others_are_stored(api: Api, tmp_path: Path) -> None:
    without_types = SPECIFIED.replace(" TEXT", "")  # so that numbers stay numbers
    bad = [a_message(**{"message_id": f"b{n}", **fields}) for n, (fields, _) in enumerate(BAD_ROWS)]
    good = [a_message(message_id=name) for name in "az"]
    file = foreign(tmp_path, good[0], *bad, good[1], schema=without_types)
    with closing(sqlite3.connect(file)) as db, db:  # not UTF-8, in a text
        db.execute("UPDATE messages SET text = CAST(x'68ff' AS TEXT) WHERE message_id = 'b0'")
        db.execute("INSERT INTO messages VALUES ('y', '+1', '+2', '', CAST(x'ff' AS TEXT), '')")

    dry = api.ran("import", "--dry-run", "--from-sqlite", file)
    before = api.rows("SELECT count(*) FROM messages")
    code, stdout, stderr = api.ran("import", "--from-sqlite", file)

    count = len(BAD_ROWS) + 1
    assert dry[:2] == (1, f"valid 2, bad {count}; nothing was stored\n")
    assert before == [(0,)]
    assert (code, stdout) == (1, f"created 2, duplicate 0 (with other content 0), bad {count}\n")
    lines = stderr.splitlines()
    assert [line.partition(": ")[0] for line in lines] == [
        f"row {n}" for n in [*range(2, 2 + len(BAD_ROWS)), len(BAD_ROWS) + 3]
    ]
    for line, (_, reason) in zip(lines, BAD_ROWS, strict=False):
        assert reason in line
    assert "text: Input should be a valid string, unable to parse raw data" in lines[-1]
    assert api.rows("SELECT message_id FROM messages ORDER BY id") == [("a",), ("z",)]


def test_a_file_in_use_by_its_own_program_is_read_with_its_wal(api: Api, tmp_path: Path) -> None:
    file = foreign(tmp_path)
    with closing(sqlite3.connect(file)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("INSERT INTO messages VALUES ('m1', '+1', '+2', '2025-01-15T10:00:00Z', '', '')")
        db.commit()

        assert api.run("import", "--from-sqlite", file).stdout.startswith("created 1,")


def test_a_value_that_is_too_long_is_not_read_into_memory(api: Api, tmp_path: Path) -> None:
    file = foreign(tmp_path, a_message())
    with closing(sqlite3.connect(file)) as db, db:
        db.execute("UPDATE messages SET text = zeroblob(?)", [100 * MIB])

    used = int(re.findall(r"VmData:\s+(\d+) kB", Path("/proc/self/status").read_text())[0]) * 1024
    with limited(resource.RLIMIT_DATA, used + 50 * MIB):
        _, stdout, stderr = api.ran("import", "--from-sqlite", file)

    assert stdout == "created 0, duplicate 0 (with other content 0), bad 1\n"
    assert stderr == "row 1: string or blob too big\n"


def test_what_cannot_be_brought_in_is_refused_by_its_name(api: Api, tmp_path: Path) -> None:
    garbage = tmp_path / "garbage.db"
    garbage.write_bytes(b"no database" * 100)
    no_table = "has no table messages with the columns message_id, from_"
    for schema in ("CREATE TABLE letters (x)", "CREATE TABLE messages (message_id, ts)", ""):
        code, stdout, stderr = api.ran("import", "--from-sqlite", foreign(tmp_path, schema=schema))
        (tmp_path / "foreign.db").unlink()
        assert (code, stdout, stderr[:7], no_table in stderr) == (1, "", "Error: ", True)

    for file, reason in [
        (garbage, f"{garbage}: file is not a database"),
        (tmp_path / "none.db", f"{tmp_path}/none.db: No such file or directory"),
        (tmp_path, f"{tmp_path}: Is a directory"),
        (tmp_path / "app.db", f"{tmp_path}/app.db: is the database itself"),
        ("-", "--from-sqlite needs the name of a file"),
    ]:
        assert api.ran("import", "--from-sqlite", file) == (1, "", f"Error: {reason}\n")
    assert not (tmp_path / "none.db").exists()


def test_the_start_on_such_a_file_says_how_to_bring_its_rows_in(tmp_path: Path) -> None:
    file = foreign(tmp_path, a_message())
    content = file.read_bytes()

    with pytest.raises(StartError) as error:
        prepare_database(Database(file))

    assert str(error.value) == (
        f"DATABASE_URL leads to {file}: the file is a database, but not one of this service; it has"
        " the specification's table: set DATABASE_URL to a new file, start, and store its messages"
        " there with flask --app wsgi import --from-sqlite FILE"
    )
    assert file.read_bytes() == content
