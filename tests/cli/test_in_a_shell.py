"""The commands as an operator starts them: their streams and settings, and nothing else printed."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.builders import SECRET
from tests.cli.running import environment, forked, in_a_shell
from tests.serving import ROOT, inherited
from webhook_api.config import Config
from webhook_api.intake.signature import sign


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

    done = in_a_shell("sign", WEBHOOK_SECRET=SECRET, DATABASE_URL=url, LOG_LEVEL="DEBUG")

    assert done == (0, sign(SECRET, b"body").encode() + b"\n", b"")
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
