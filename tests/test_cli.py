"""The commands of `flask --app wsgi`: what they do and print, and their exit codes."""

import errno
import json
import logging
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from click.testing import Result
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.serving import make_server

from tests.builders import SECRET, a_message, an_app
from tests.conftest import Post
from tests.serving import inherited, wait_until
from webhook_api import close_app, create_app
from webhook_api.config import Config
from webhook_api.intake.signature import sign
from webhook_api.store.database import Database

Run = Callable[..., Result]
Rows = Callable[[str], list[Any]]
Damage = Callable[[str], None]

ODD_TEXTS = [
    None,
    "",
    "a\0b",
    "\x01\x1f\x7f\x85\u2028\ufeff",
    '"quoted" \\ %_*',
    "À L'ÉCOLE 🏫\U0010ffff",
    "x" * 4096,
]


@pytest.fixture
def run(app: Flask) -> Run:
    """Run a command, and return its output and exit code."""

    def invoke(*args: object, stdin: bytes | None = None) -> Result:
        return app.test_cli_runner().invoke(args=[str(arg) for arg in args], input=stdin)

    return invoke


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Flask]:
    """An application on another, empty file."""
    app = an_app(Config(webhook_secret=SECRET, database_path=tmp_path / "other" / "app.db"))
    yield app
    close_app(app)


@pytest.fixture
def server(app: Flask) -> Iterator[str]:
    """The URL of the application, which this process serves over HTTP without logs."""
    logging.disable(logging.INFO)
    http = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=http.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{http.port}/webhook"
    http.shutdown()
    thread.join()
    http.server_close()
    logging.disable(logging.NOTSET)


@pytest.fixture
def damage(config: Config) -> Damage:
    """Change the database file while the service does not know it."""

    def execute(sql: str) -> None:
        connection = sqlite3.connect(config.database_path)
        connection.executescript(sql)
        connection.close()

    return execute


def as_lines(*payloads: object) -> bytes:
    return b"".join(json.dumps(payload).encode() + b"\n" for payload in payloads)


def some_messages(count: int) -> bytes:
    return as_lines(
        *(
            a_message(
                message_id=f"m{number}",
                sender=f"+{number % 7}",
                ts=f"2025-01-15T{number % 24:02}:00:00Z",
            )
            for number in range(count)
        )
    )


def environment(config: Config) -> dict[str, str]:
    return {"WEBHOOK_SECRET": SECRET, "DATABASE_URL": f"sqlite:///{config.database_path}"}


def start_in_a_shell(*args: object, **environ: str) -> subprocess.Popen[bytes]:
    """Start `flask --app wsgi` as an operator does."""
    return subprocess.Popen(
        [sys.executable, "-m", "flask", "--app", "wsgi", *map(str, args)],
        cwd=Path(__file__).parent.parent,
        env={**inherited(), "FLASK_SKIP_DOTENV": "1", **environ},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def in_a_shell(*args: object, **environ: str) -> tuple[int, bytes, bytes]:
    """Run it with `body` as its stdin; return exit code, stdout and stderr."""
    with start_in_a_shell(*args, **environ) as process:
        stdout, stderr = process.communicate(b"body")
    return process.returncode, stdout, stderr


# import


def test_import_stores_each_message_once(run: Run, rows: Rows) -> None:
    lines = as_lines(a_message(message_id="a"), a_message(message_id="b"))

    first, second = run("import", "-", stdin=lines), run("import", "-", stdin=lines + lines)

    assert (first.exit_code, first.stdout) == (
        0,
        "created 2, duplicate 0 (with other content 0), bad 0\n",
    )
    assert (second.exit_code, second.stdout) == (
        0,
        "created 0, duplicate 4 (with other content 0), bad 0\n",
    )
    assert rows("SELECT message_id FROM messages ORDER BY id") == [("a",), ("b",)]


def test_import_keeps_the_first_of_two_that_differ_and_counts_the_other(
    run: Run, post_signed: Post, rows: Rows
) -> None:
    post_signed(a_message(text="first"))

    result = run("import", "-", stdin=as_lines(a_message(text="second")))

    assert result.stdout == "created 0, duplicate 1 (with other content 1), bad 0\n"
    assert rows("SELECT text FROM messages") == [("first",)]


def test_import_names_each_bad_line_and_stores_the_others(run: Run, rows: Rows) -> None:
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

    result = run("import", "-", stdin=b"".join(lines))

    assert result.exit_code == 1
    assert result.stdout == "created 2, duplicate 0 (with other content 0), bad 5\n"
    reported = result.stderr.splitlines()
    assert [line.partition(": ")[0] for line in reported] == [f"line {n}" for n in range(3, 8)]
    assert reported[1] == (
        "line 4: message_id: String should have at least 1 character;"
        " ts: Input should be a real date and time: day is out of range for month"
    )
    assert max(map(len, reported)) < 250
    assert rows("SELECT message_id FROM messages ORDER BY id") == [("good",), ("last",)]


def test_import_skips_a_line_that_is_too_long_without_keeping_it_in_memory(
    config: Config, rows: Rows
) -> None:
    app = create_app(Config(**{**vars(config), "max_body_bytes": 200}))
    lines = b"x" * 1201 + b"\n" + as_lines(a_message()) + b"x" * 5000 + b"\n" + b"x" * 1199 + b"\n"

    result = app.test_cli_runner().invoke(args=["import", "-"], input=lines)

    close_app(app)
    assert result.stdout == "created 1, duplicate 0 (with other content 0), bad 3\n"
    assert result.stderr.splitlines()[:2] == [
        "line 1: the line is too long",
        "line 3: the line is too long",
    ]
    assert result.stderr.splitlines()[2].startswith("line 4: Invalid JSON: expected value")


def test_import_takes_files_of_many_batches(run: Run, rows: Rows, tmp_path: Path) -> None:
    file = tmp_path / "messages.ndjson"
    file.write_bytes(some_messages(4500))

    result = run("import", file)

    assert result.stdout == "created 4500, duplicate 0 (with other content 0), bad 0\n"
    assert rows("SELECT messages, indexed FROM totals") == [(4500, 4500)]


def test_a_dry_run_checks_every_line_and_stores_nothing(run: Run, rows: Rows) -> None:
    result = run("import", "--dry-run", "-", stdin=some_messages(3) + b"{}\n")

    assert (result.exit_code, result.stdout) == (1, "valid 3, bad 1; nothing was stored\n")
    assert rows("SELECT count(*) FROM messages") == [(0,)]


def test_deliveries_and_an_import_go_on_at_the_same_time(
    run: Run, post_signed: Post, rows: Rows, config: Config, tmp_path: Path
) -> None:
    file = tmp_path / "messages.ndjson"
    file.write_bytes(some_messages(3000))
    statuses: list[int] = []

    with start_in_a_shell("import", file, **environment(config)) as importing:
        while importing.poll() is None:
            message_id = f"m{len(statuses) * 7 % 3000}"
            statuses.append(post_signed(a_message(message_id=message_id)).status_code)

    assert importing.returncode == 0
    assert set(statuses) == {200}
    assert rows("SELECT count(*) FROM messages") == [(3000,)]
    assert run("verify").exit_code == 0


def test_import_waits_for_a_program_that_locks_the_database(run: Run, config: Config) -> None:
    other = sqlite3.connect(config.database_path, check_same_thread=False, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    release = threading.Timer(0.3, other.rollback)

    release.start()
    result = run("import", "-", stdin=some_messages(1))

    release.join()
    other.close()
    assert result.stdout.startswith("created 1,")


def test_import_stopped_by_ctrl_c_says_what_it_stored(config: Config, rows: Rows) -> None:
    with start_in_a_shell("import", "-", **environment(config)) as importing:
        assert importing.stdin is not None
        importing.stdin.write(some_messages(2500))
        importing.stdin.flush()
        wait_until(lambda: rows("SELECT count(*) FROM messages") == [(2000,)], 30)

        importing.send_signal(signal.SIGINT)
        stdout, stderr = importing.communicate()

    assert (importing.returncode, stderr) == (130, b"")
    assert stdout == b"stopped; created 2000, duplicate 0 (with other content 0), bad 0\n"


def test_import_creates_no_database(run: Run, config: Config) -> None:
    config.database_path.unlink()

    result = run("import", "-", stdin=some_messages(1))

    assert (result.exit_code, result.output) == (
        1,
        f"Error: database {config.database_path}: there is none;"
        " flask --app wsgi init-db creates it\n",
    )
    assert not config.database_path.exists()


# export


def test_an_export_is_imported_without_loss(run: Run, elsewhere: Flask, rows: Rows) -> None:
    messages = [
        a_message(
            message_id=f"\0{number} \U0001f600", text=text, ts=f"2025-01-15T10:00:00.{number}Z"
        )
        for number, text in enumerate(ODD_TEXTS, start=1)
    ]
    run("import", "-", stdin=as_lines(*messages))

    exported = run("export").stdout_bytes
    elsewhere.test_cli_runner().invoke(args=["import", "-"], input=exported)
    again = elsewhere.test_cli_runner().invoke(args=["export"]).stdout_bytes

    assert [json.loads(line) for line in exported.split(b"\n")[:-1]] == messages
    assert again == exported


def test_export_writes_each_line_no_longer_than_the_body_was(run: Run, post_signed: Post) -> None:
    body = json.dumps(a_message(text="\0é😀"), ensure_ascii=False).encode()
    post_signed(body)

    assert run("export").stdout_bytes == body + b"\n"


def test_export_to_a_file_leaves_stdout_alone(run: Run, tmp_path: Path) -> None:
    run("import", "-", stdin=some_messages(3))

    result = run("export", tmp_path / "out.ndjson")

    assert (result.stdout, result.stderr) == ("", "exported 3\n")
    assert (tmp_path / "out.ndjson").read_bytes().count(b"\n") == 3


def test_an_export_does_not_replace_the_database(run: Run, config: Config) -> None:
    run("import", "-", stdin=some_messages(3))

    for name in ("app.db", "app.db-wal", "app.db.restored"):
        result = run("export", config.database_path.with_name(name))
        assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
        assert "of the database itself" in result.stderr or "is the database" in result.stderr

    assert run("export").stdout.count("\n") == 3


def test_an_export_that_fails_leaves_the_older_one(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("import", "-", stdin=some_messages(3))
    run("export", tmp_path / "out.ndjson")
    before = (tmp_path / "out.ndjson").read_bytes()

    def fail(*_args: object) -> Iterator[object]:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("webhook_api.cli.bulk.stream_messages", fail)
    result = run("export", tmp_path / "out.ndjson")

    assert (result.exit_code, result.stderr) == (1, "Error: Input/output error\n")
    assert (tmp_path / "out.ndjson").read_bytes() == before
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("export >&-", b"Error: stdout is closed\n"),
        ("import - <&-", b"Error: stdin: is closed\n"),
        ("restore - <&-", b"Error: stdin: is closed\n"),
        ("sign - <&-", b"Error: stdin: is closed\n"),
        ("send --file - <&-", b"Error: stdin: is closed\n"),
    ],
)
def test_a_closed_stream_is_one_line(run: Run, config: Config, arguments: str, says: bytes) -> None:
    run("init-db")
    done = subprocess.run(
        ["sh", "-c", f"exec {sys.executable} -m flask --app wsgi {arguments}"],
        cwd=Path(__file__).parent.parent,
        env={**inherited(), "FLASK_SKIP_DOTENV": "1", **environment(config)},
        stderr=subprocess.PIPE,
        check=False,
    )

    assert (done.returncode, done.stderr) == (1, says)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], ["early", "late", "other"]),
        (["--from", "+1"], ["early", "late"]),
        (["--from", " 1"], ["early", "late"]),
        (["--since", "2025-01-15T10:00:00Z"], ["late", "other"]),
        (["--q", "ÉCOLE"], ["late", "other"]),
        (["--q", "ÉCOLE", "--from", "+1", "--since", "2025-01-15T10:00:00Z"], ["late"]),
        (["--q", "", "--from", ""], ["early", "late", "other"]),
    ],
)
def test_export_filters_as_the_api_does(run: Run, options: list[str], expected: list[str]) -> None:
    messages = [
        a_message(message_id="early", sender="+1", ts="2025-01-15T09:59:59.9Z", text=None),
        a_message(message_id="late", sender="+1", ts="2025-01-15T10:00:00Z", text="école"),
        a_message(message_id="other", sender="+2", ts="2025-01-15T10:00:01Z", text="À l'école"),
    ]
    run("import", "-", stdin=as_lines(*messages))

    lines = run("export", *options).stdout.splitlines()

    assert [json.loads(line)["message_id"] for line in lines] == expected


def test_export_ends_without_a_message_when_its_reader_ends(run: Run, config: Config) -> None:
    # More than a pipe holds.
    texts = (a_message(message_id=f"{number:03}", text="x" * 4096) for number in range(100))
    run("import", "-", stdin=as_lines(*texts))

    with start_in_a_shell("export", **environment(config)) as exporting:
        assert exporting.stdout is not None
        assert exporting.stderr is not None
        first = exporting.stdout.readline()
        exporting.stdout.close()
        complaint = exporting.stderr.read()

    assert json.loads(first)["message_id"] == "000"
    assert complaint == b""


# verify


def test_verify_finds_nothing_in_what_the_service_wrote(
    run: Run, post_signed: Post, damage: Damage, config: Config
) -> None:
    for number, text in enumerate(ODD_TEXTS):
        post_signed(a_message(message_id=f"{number}", text=text, sender=f"+{number % 3}"))
    run("import", "-", stdin=some_messages(50))
    post_signed(a_message(message_id="not yet indexed", ts="0001-01-01T00:00:00.000000001Z"))
    damage("DELETE FROM messages WHERE id % 5 = 0")

    result = run("verify")

    assert (result.stdout, result.exit_code) == (
        f"{config.database_path}: 47 messages, nothing differs\n",
        0,
    )
    assert [file.name for file in config.database_path.parent.glob(".verify*")] == []


@pytest.mark.parametrize(
    ("sql", "named"),
    [
        ("UPDATE totals SET messages = 9", ["totals messages: kept is 9, should be 100"]),
        ("UPDATE totals SET senders = 8", ["totals senders: kept is 8, should be 7"]),
        ("UPDATE totals SET indexed = 101", ["totals indexed: kept is 101, should be 100"]),
        ("UPDATE senders SET messages = 1 WHERE from_msisdn = '+3'",
         ["senders +3: kept is 1, should be 14"]),
        ("INSERT INTO senders VALUES ('+99', 0)",
         ["totals senders: kept is 8, should be 7", "senders +99: kept is 0, should be nothing"]),
        ("DELETE FROM periods WHERE length = 86400",
         ["periods 86400/1736899200: kept is nothing, should be 100"]),
        ("UPDATE sender_periods SET messages = 1 WHERE from_msisdn = '+3'",
         ["sender_periods 1656/+3: kept is 1, should be 14"]),
        ("UPDATE characters SET messages = 8 WHERE character = 'h'",
         ["characters 'h': kept is 8, should be 100"]),
        ("INSERT INTO characters VALUES ('z', 0), ('y', 1)",
         ["characters 'y': kept is 1, should be 0"]),
        ("DROP TRIGGER count_message", ["schema: trigger count_message is missing"]),
        ("INSERT INTO messages_search (messages_search, rowid, body)"
         " SELECT 'delete', id, body FROM searchable WHERE id = 7",
         ["messages_search: the index is not that of the texts"]),
        ("DROP TRIGGER messages_are_final; UPDATE messages SET nanos = 5 WHERE id = 1",
         ["schema: trigger messages_are_final is missing",
          "instant m0: kept is 1736899200 s 5 ns, should be 2025-01-15T00:00:00Z"]),
        ("PRAGMA writable_schema = ON;"
         " DELETE FROM sqlite_master WHERE name = 'senders_by_messages'",
         ["schema: index senders_by_messages is missing", "integrity_check: Page"]),
    ],
)  # fmt: skip
def test_verify_names_what_differs(run: Run, damage: Damage, sql: str, named: list[str]) -> None:
    run("import", "-", stdin=some_messages(100))
    damage(sql)

    result = run("verify")

    lines = result.stdout.splitlines()
    assert result.exit_code == 1
    assert len(lines) == len(named)
    for line, start in zip(lines, named, strict=True):
        assert line.startswith(start)


def test_verify_shows_the_first_of_many_differences_and_how_many_there_are(
    run: Run, damage: Damage
) -> None:
    run("import", "-", stdin=some_messages(100))
    damage("UPDATE periods SET messages = messages + 1")

    lines = run("verify").stdout.splitlines()

    assert len(lines) == 11
    assert lines[-1] == "periods: 50 differ in all"


def test_verify_needs_no_write_lock(run: Run, config: Config) -> None:
    run("import", "-", stdin=some_messages(10))
    other = sqlite3.connect(config.database_path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    with Database(config.database_path).write_lock():
        result = run("verify")

    other.close()
    assert result.exit_code == 0


# init-db


def test_init_db_leaves_what_is_there(run: Run, post_signed: Post, rows: Rows) -> None:
    post_signed(a_message())

    result = run("init-db")

    assert result.exit_code == 0
    assert rows("SELECT count(*) FROM messages") == [(1,)]


@pytest.mark.parametrize("lost", ["app.db", "app.db*"])
def test_the_service_goes_on_with_a_file_that_init_db_made_again(
    client: FlaskClient, post_signed: Post, rows: Rows, config: Config, lost: str
) -> None:
    for number in range(40):
        post_signed(a_message(message_id=f"before {number}", text=f"{number}" * 2000))
    client.get("/messages")
    for file in config.database_path.parent.glob(lost):
        file.unlink()
    refused = post_signed(a_message())

    # By another process: what one process has open, SQLite knows there.
    code, _, stderr = in_a_shell("init-db", **environment(config))

    assert (refused.status_code, code, stderr) == (503, 0, b"")
    assert post_signed(a_message()).status_code == 200
    assert rows("SELECT message_id FROM messages") == [("m1",)]
    assert client.get("/messages").get_json()["total"] == 1
    assert rows("PRAGMA integrity_check") == [("ok",)]


def test_init_db_keeps_the_wal_of_a_file_that_is_gone(
    run: Run, post_signed: Post, config: Config
) -> None:
    post_signed(a_message())
    wal = config.database_path.with_name("app.db-wal")
    written = wal.read_bytes()
    config.database_path.unlink()

    run("init-db")

    assert wal.with_name("app.db-wal.orphan").read_bytes() == written != b""


# sign and send


@pytest.mark.parametrize("body", [b"", b'{"a": 1}', b'{"a": 1}\r\n', bytes(range(256))])
def test_sign_prints_the_header_for_exactly_these_bytes(
    run: Run, tmp_path: Path, body: bytes
) -> None:
    file = tmp_path / "body"
    file.write_bytes(body)

    assert run("sign", file).stdout == run("sign", stdin=body).stdout == sign(SECRET, body) + "\n"


def test_send_delivers_as_many_messages_as_asked_for(run: Run, server: str, rows: Rows) -> None:
    result = run("send", "--url", server, "--count", 60, "--concurrency", 3)

    assert result.exit_code == 0
    assert result.stdout.splitlines()[0] == "200 OK: 60"
    assert result.stderr.startswith("Delivering samples, which the receiver keeps")
    assert rows("SELECT count(*) FROM messages WHERE text IS NOT ''") == [(60,)]


def test_send_delivers_an_export_and_import_finds_nothing_new_in_it(
    run: Run, elsewhere: Flask, server: str, tmp_path: Path, rows: Rows
) -> None:
    file = tmp_path / "export.ndjson"
    messages = [a_message(message_id=f"m{n}", text=text) for n, text in enumerate(ODD_TEXTS)]
    there = elsewhere.test_cli_runner()
    there.invoke(args=["import", "-"], input=as_lines(*messages) + some_messages(300)[:-1])
    exported = there.invoke(args=["export", str(file)])

    sent = there.invoke(args=["send", "--file", str(file), "--url", server, "--concurrency", "3"])
    imported = run("import", file)

    assert (exported.exit_code, sent.exit_code, sent.stderr) == (0, 0, "")
    assert sent.stdout.splitlines()[0] == "200 OK: 300"
    assert rows("SELECT count(*) FROM messages") == [(300,)]
    assert imported.stdout == "created 0, duplicate 300 (with other content 0), bad 0\n"


def test_send_names_bad_lines_and_delivers_the_others(run: Run, server: str, rows: Rows) -> None:
    lines = b"{not json}\n" + as_lines(a_message(message_id="good"), {}) + b"\n"

    result = run("send", "--file", "-", "--url", server, stdin=lines)

    assert result.exit_code == 1
    assert [line.partition(": ")[0] for line in result.stderr.splitlines()] == ["line 1", "line 3"]
    counts = result.stdout.splitlines()
    assert (counts[0], counts[-1]) == ("200 OK: 1", "bad lines, left out: 2")
    assert rows("SELECT message_id FROM messages") == [("good",)]


def test_send_refuses_a_count_together_with_a_file(run: Run) -> None:
    result = run("send", "--file", "-", "--count", 5)

    assert result.exit_code == 2
    assert "--count is for samples" in result.stderr


def test_send_says_what_else_was_answered(
    server: str, app: Flask, elsewhere: Flask, rows: Rows
) -> None:
    app.config["WEBHOOK_SECRET"] = "another"

    result = elsewhere.test_cli_runner().invoke(args=["send", "--url", server, "--count", "5"])

    assert result.exit_code == 1
    assert result.stdout.splitlines()[0] == "401 Unauthorized: 5"
    assert rows("SELECT count(*) FROM messages") == [(0,)]


def test_send_names_the_url_that_it_could_not_reach(run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}/webhook"

    result = run("send", "--url", url, "--count", 5)

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.splitlines()[1:] == [f"Error: {url}: Connection refused"]


@pytest.mark.parametrize("url", ["http://exa mple/", "http://127.0.0.1:1/\xe9"])
def test_send_ends_with_one_line_whatever_is_wrong_with_the_url(run: Run, url: str) -> None:
    result = run("send", "--url", url, "--count", 1)

    assert result.exit_code == 1
    _, failure = result.output.splitlines()
    assert failure.startswith(f"Error: {url}: ")


@pytest.mark.parametrize(
    "url", ["ftp://host/", "localhost:8000", "http://", "http://[", "http://h:x"]
)
def test_send_refuses_a_wrong_url(run: Run, url: str) -> None:
    result = run("send", "--url", url)

    assert result.exit_code == 1
    assert result.output == f"Error: --url is {url!r}: accepted are http:// and https:// URLs\n"


# As an operator runs them


def test_send_delivers_to_the_port_of_the_service(config: Config, server: str, rows: Rows) -> None:
    port = str(urlsplit(server).port)

    code, stdout, _ = in_a_shell("send", "--count", 3, PORT=port, **environment(config))

    assert (code, stdout.splitlines()[0]) == (0, b"200 OK: 3")
    assert rows("SELECT count(*) FROM messages") == [(3,)]


def test_sign_makes_no_database_and_prints_the_signature_alone(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/new/app.db"

    done = in_a_shell("sign", WEBHOOK_SECRET=SECRET, DATABASE_URL=url, LOG_LEVEL="DEBUG")

    assert done == (0, sign(SECRET, b"body").encode() + b"\n", b"")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["verify", "--help"])
def test_a_missing_setting_is_one_line(command: str) -> None:
    code, stdout, stderr = in_a_shell(command)

    assert (code, stdout) == (1, b"")
    assert stderr == (
        b"Error: WEBHOOK_SECRET is not set: give it the secret shared with the provider\n"
    )


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (["verify"], "database {path}: No such file or directory"),
        (["export"], "database {path}: No such file or directory"),
        (["import", "/nowhere/file"], "/nowhere/file: No such file or directory"),
        (["import", "/"], "/: Is a directory"),
        (["sign", "/nowhere/file"], "/nowhere/file: No such file or directory"),
        (["export", "--since", "today"],
         "since: Input should be a UTC timestamp such as 2025-01-15T10:00:00Z"),
    ],
)  # fmt: skip
def test_a_failed_command_is_one_line(
    run: Run, config: Config, command: list[str], reason: str
) -> None:
    config.database_path.unlink()

    result = run(*command)

    expected = reason.format(path=config.database_path)
    assert (result.exit_code, result.output) == (1, f"Error: {expected}\n")


@pytest.mark.parametrize("command", [["verify"], ["export"], ["import", "-"], ["init-db"]])
def test_a_file_that_is_not_a_database_is_one_line(
    run: Run, config: Config, command: list[str]
) -> None:
    config.database_path.write_bytes(b"garbage, but long enough to have a header" * 100)

    result = run(*command, stdin=some_messages(1))

    expected = f"Error: database {config.database_path}: file is not a database\n"
    assert (result.exit_code, result.output) == (1, expected)
