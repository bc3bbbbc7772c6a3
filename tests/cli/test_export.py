"""`flask --app wsgi export`: all messages or some, without loss."""

import json
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from tests.builders import a_message
from tests.cli.running import (
    ODD_TEXTS,
    as_lines,
    environment,
    short_files,
    some_messages,
    start_in_a_shell,
)
from tests.conftest import Api


def test_an_export_is_imported_without_loss(api: Api, elsewhere: Flask) -> None:
    messages = [
        a_message(
            message_id=f"\0{number} \U0001f600", text=text, ts=f"2025-01-15T10:00:00.{number}Z"
        )
        for number, text in enumerate(ODD_TEXTS, start=1)
    ]
    api.run("import", "-", stdin=as_lines(*messages))

    exported = api.run("export").stdout_bytes
    elsewhere.test_cli_runner().invoke(args=["import", "-"], input=exported)
    again = elsewhere.test_cli_runner().invoke(args=["export"]).stdout_bytes

    assert [json.loads(line) for line in exported.split(b"\n")[:-1]] == messages
    assert again == exported


def test_addresses_that_are_no_numbers_are_exported_and_imported(
    api: Api, elsewhere: Flask
) -> None:
    messages = [
        a_message(message_id="meta:1", sender="US.1349", to="106540352242922"),
        a_message(message_id="twilio:SM1", sender="SUPPORT", text="xoxo \ufffd"),
    ]
    assert api.run("import", "-", stdin=as_lines(*messages)).exit_code == 0

    exported = api.run("export").stdout_bytes
    runner = elsewhere.test_cli_runner()

    assert runner.invoke(args=["import", "-"], input=exported).exit_code == 0
    assert runner.invoke(args=["export"]).stdout_bytes == exported
    assert runner.invoke(args=["import", "-"], input=as_lines(a_message(to="x"))).exit_code == 1


def test_what_a_provider_sent_is_exported_and_imported(api: Api, elsewhere: Flask) -> None:
    origin = {
        "provider": "meta",
        "kind": "image",
        "payload": {"id": "1", "é": [1.5, None, "\u200e"]},
    }
    kept = {**a_message(message_id="meta:1"), **origin}
    bare = {**a_message(message_id="twilio:1"), "provider": "twilio", "kind": None, "payload": None}
    odd = {**a_message(message_id="standard:1"), "kind": 7, "payload": [], "provider": 5}
    api.run("import", "-", stdin=as_lines(kept, bare, odd))

    exported = api.run("export").stdout_bytes
    runner = elsewhere.test_cli_runner()
    runner.invoke(args=["import", "-"], input=exported)
    shown: Any = elsewhere.test_client().get("/messages/meta:1").json

    lines = {line["message_id"]: line for line in map(json.loads, exported.splitlines())}
    odd |= {"provider": "standard", "kind": None}
    assert lines == {one["message_id"]: one for one in (kept, bare, odd)}
    assert {name: shown[name] for name in origin} == origin
    assert runner.invoke(args=["export"]).stdout_bytes == exported


def test_export_writes_each_line_no_longer_than_the_body_was(api: Api) -> None:
    body = json.dumps(a_message(text="\0é😀"), ensure_ascii=False).encode()
    api.post(body)

    assert api.run("export").stdout_bytes == body + b"\n"


def test_export_to_a_file_leaves_stdout_alone(api: Api, tmp_path: Path) -> None:
    api.run("import", "-", stdin=some_messages(3))

    result = api.run("export", tmp_path / "out.ndjson")

    assert (result.stdout, result.stderr) == ("", "exported 3\n")
    assert (tmp_path / "out.ndjson").read_bytes().count(b"\n") == 3


def test_an_export_that_fails_leaves_the_older_one(api: Api, tmp_path: Path) -> None:
    api.run("import", "-", stdin=some_messages(3))
    api.run("export", tmp_path / "out.ndjson")
    before = (tmp_path / "out.ndjson").read_bytes()

    with short_files(200):  # it needs more
        result = api.run("export", tmp_path / "out.ndjson")

    assert (result.exit_code, result.stderr) == (1, "Error: File too large\n")
    assert (tmp_path / "out.ndjson").read_bytes() == before
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
        (["--q", "", "--from", ""], ["early", "late", "other"]),
    ],
)
def test_export_filters_as_the_api_does(api: Api, options: list[str], expected: list[str]) -> None:
    messages = [
        a_message(message_id="early", sender="+1", ts="2025-01-15T09:59:59.9Z", text=None),
        a_message(message_id="late", sender="+1", ts="2025-01-15T10:00:00Z", text="école"),
        a_message(
            message_id="other", sender="+2", to="+9", ts="2025-01-15T10:00:01Z", text="À l'école"
        ),
    ]
    api.run("import", "-", stdin=as_lines(*messages))

    lines = api.run("export", *options).stdout.splitlines()

    assert [json.loads(line)["message_id"] for line in lines] == expected


def test_export_ends_without_a_message_when_its_reader_ends(api: Api) -> None:
    # More than a pipe holds.
    texts = (a_message(message_id=f"{number:03}", text="x" * 4096) for number in range(100))
    api.run("import", "-", stdin=as_lines(*texts))

    with start_in_a_shell("export", **environment(api.config.database_path)) as exporting:
        assert exporting.stdout is not None
        assert exporting.stderr is not None
        first = exporting.stdout.readline()
        exporting.stdout.close()
        complaint = exporting.stderr.read()

    assert json.loads(first)["message_id"] == "000"
    assert complaint == b""
