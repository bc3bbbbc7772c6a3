"""A command that fails says why in one line."""

import os
import sqlite3
from contextlib import closing

import pytest
from flask import Flask

from tests.cli.running import Run, some_messages
from webhook_api.cli.failures import describe
from webhook_api.config import Config


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (["verify"], "database {path}: No such file or directory"),
        (["export"], "database {path}: No such file or directory"),
        (["import", "/nowhere/file"], "/nowhere/file: No such file or directory"),
        (["import", "/"], "/: Is a directory"),
        (["sign", "/nowhere/file"], "/nowhere/file: No such file or directory"),
        (["export", "--since", "today"],
         "since: Input should be an ISO 8601 time, such as 2025-01-15T09:30:00Z or 2025-01-15"),
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
