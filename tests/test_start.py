"""The start of `python -m webhook_api`: what it reads and logs, and how it fails."""

import json
import os
import re
import resource
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.builders import SECRET
from tests.forks import Command
from tests.serving import FAULTY, ROOT, free_port, serving, start
from webhook_api.config import Config
from webhook_api.intake.signature import sign
from webhook_api.logs import EXIT_CONFIG
from webhook_api.start import (
    OPEN_FILES,
    StartError,
    check_port,
    prepare_database,
    prepare_if_possible,
)
from webhook_api.store.database import Database


def test_a_port_that_is_taken_is_one_line_that_names_it(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        status = start(tmp_path, PORT=port).wait(60)

    [said] = [json.loads(line) for line in (tmp_path / "stdout").read_text().splitlines()]
    assert (status, said["level"]) == (EXIT_CONFIG, "CRITICAL")
    assert said["message"] == (
        f"start failed: PORT is {port}: another program listens there; set PORT to a free one"
    )
    assert (tmp_path / "stderr").read_text() == ""
    assert not (tmp_path / "data").exists()


def test_a_service_that_has_just_ended_leaves_its_port_free(tmp_path: Path) -> None:
    with serving(tmp_path, WEB_CONCURRENCY=1) as server:
        server.get("/health/live")  # which leaves a connection in TIME_WAIT
        port = server.port

    check_port(Config(webhook_secret=SECRET, port=port))


def test_an_address_that_this_host_does_not_have_is_named() -> None:
    config = Config(webhook_secret=SECRET, bind="203.0.113.1", port=free_port())

    with pytest.raises(StartError, match=r"^BIND is 203\.0\.113\.1: Cannot assign"):
        check_port(config)


def test_a_folder_of_another_user_is_named_with_the_command_that_helps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Refused(Database):
        def prepare(self, *, create: bool = False) -> None:
            raise PermissionError(13, "Permission denied")

    # Tests may run as root, who is refused nothing.
    monkeypatch.setattr(os, "access", lambda *_: False)

    with pytest.raises(StartError) as failure:
        prepare_database(Refused(tmp_path / "app.db"))

    user = os.getuid()
    assert str(failure.value) == (
        f"DATABASE_URL leads to {tmp_path}/app.db: Permission denied;"
        f" the service runs as user {user}: chown -R {user} {tmp_path}"
        " (or the host's folder mounted there)"
    )


def test_a_volume_that_goes_while_the_schema_is_updated_ends_no_worker(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """If a worker ends at its start, Gunicorn ends the service."""
    path = tmp_path / "data" / "app.db"

    class Gone(Database):
        def free_bytes(self) -> int:
            shutil.rmtree(self.path.parent)
            return super().free_bytes()

    Database(path).prepare(create=True)
    prepare_if_possible(Gone(path))
    with pytest.raises(StartError, match="No such file or directory"):
        prepare_database(Gone(path))

    assert "database is not ready: database: No such file or directory" in caplog.text


def test_each_start_says_in_one_line_what_it_found(tmp_path: Path) -> None:
    for message_id in ("first", "second"):
        with serving(tmp_path, WEB_CONCURRENCY=1) as server:
            assert server.deliver(message_id=message_id).status == 200

    said = [line["message"] for line in server.log if line.get("logger") == "webhook_api.start"]
    port = r", port [0-9]+, API at /docs"
    is_open = "READ_TOKEN is not set: whoever reaches the port can read all messages"
    assert [re.sub(port, "", message) for message in said] == [
        f"database {server.database} (created)",
        is_open,
        f"database {server.database} (messages: 1)",
        is_open,
    ]


def test_a_start_with_a_read_token_and_good_secrets_warns_of_nothing(tmp_path: Path) -> None:
    with serving(tmp_path, WEB_CONCURRENCY=2, READ_TOKEN="a-token-for-readers") as server:
        server.get("/health/live")

    assert {line["level"] for line in server.log} <= {"INFO"}


def test_a_start_says_once_what_is_odd_in_the_settings(tmp_path: Path) -> None:
    secret = f'"{SECRET}"'
    settings = {
        "WEBHOOK_SECRET": secret,
        "WEBHOOK_SECRET_PREVIOUS": secret,
        "READ_TOKEN": "a-token-for-readers",
        "DATABASE_URL": f"sqlite+aiosqlite:///{tmp_path}/data/driver.db ",
    }
    with serving(tmp_path, WEB_CONCURRENCY=2, **settings) as server:
        assert server.deliver(secret=secret).status == 200

    assert {line["message"] for line in server.log if line["level"] == "WARNING"} == {
        "WEBHOOK_SECRET has quotation marks: they are part of the secret",
        "WEBHOOK_SECRET_PREVIOUS has quotation marks: they are part of the secret",
        "WEBHOOK_SECRET_PREVIOUS repeats the current secret: no older one is accepted",
        "DATABASE_URL names the driver aiosqlite, which is ignored:"
        " the service uses Python's sqlite3",
    }
    assert sum(line["level"] == "WARNING" for line in server.log) == 4
    assert (tmp_path / "data" / "driver.db").exists()


def test_the_service_listens_where_it_is_told_and_may_open_as_many_files_as_there_may_be(
    tmp_path: Path,
) -> None:
    with serving(tmp_path, WEB_CONCURRENCY=1, BIND="127.0.0.1") as server:
        pids = (server.process.pid, *server.workers)
        allowed = [resource.prlimit(pid, resource.RLIMIT_NOFILE)[0] for pid in pids]
        messages = [line.get("message", "") for line in server.log]

    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert any(f"Listening at: http://127.0.0.1:{server.port} " in message for message in messages)
    assert allowed == [min(most, OPEN_FILES)] * 2


def test_a_metrics_folder_that_cannot_be_made_is_one_critical_line(tmp_path: Path) -> None:
    status = start(tmp_path, FAULTY, PORT=free_port(), METRICS_IN="/proc").wait(60)

    lines = [json.loads(line) for line in (tmp_path / "stdout").read_text().splitlines()]
    assert (status, (tmp_path / "stderr").read_text()) == (EXIT_CONFIG, "")
    [fault] = [line for line in lines if line["level"] not in ("INFO", "WARNING")]
    assert fault["message"].startswith("start failed: no folder for the metrics")
    assert "traceback" not in fault


def a_copy(folder: Path, dotenv: bytes) -> Path:
    """Make `folder` look like a clone of the repository with a `.env`."""
    for name in ("webhook_api", "wsgi.py", "gunicorn.conf.py"):
        (folder / name).symlink_to(ROOT / name)
    (folder / ".env").write_bytes(dotenv)
    return folder


@pytest.mark.parametrize(
    ("dotenv", "reason"),
    [
        # Of PowerShell's >.
        ("WEBHOOK_SECRET=testsecret\r\n".encode("utf-16"), ".env is not in UTF-8"),
        ("WEBHOOK_SECRET=gr\u00fcn\n".encode("latin-1"), ".env is not in UTF-8"),
        ("WEBHOOK_SECRET=testsecret\n".encode("utf-16-le"), ".env cannot be used"),
        (b"WEBHOOK_SECRET=test\0secret\n", ".env cannot be used"),
        (b"WEBHOOK_SECRET=testsecret\n" + b"#" * 2**20, ".env has more than 1048576 bytes"),
    ],
    ids=["UTF-16", "Latin-1", "UTF-16 without a mark", "null byte", "too long"],
)
def test_a_dotenv_that_cannot_be_used_is_one_line_that_names_it(
    tmp_path: Path, dotenv: bytes, reason: str
) -> None:
    a_copy(tmp_path, dotenv)

    status, stdout, stderr = program(tmp_path)
    of_command, printed, complaint = program(tmp_path, "verify")

    assert (status, stderr, stdout.count("\n")) == (EXIT_CONFIG, "", 1)
    assert f"start failed: {reason}" in stdout
    assert (of_command, printed, complaint.count("\n")) == (EXIT_CONFIG, "", 1)
    assert complaint.startswith(f"Error: {reason}")


def test_a_folder_named_like_a_dotenv_is_not_read(tmp_path: Path) -> None:
    a_copy(tmp_path, b"").joinpath(".env").unlink()
    tmp_path.joinpath(".env").mkdir()  # of python -m venv .env

    assert program(tmp_path, "init-db", WEBHOOK_SECRET=SECRET)[0] == 0


def program(folder: Path, *arguments: str, **settings: str) -> tuple[int, str, str]:
    """Run `python -m webhook_api` there, in an environment with nothing but `settings`.

    Return its exit status, stdout and stderr.
    """
    environment = {"PATH": os.environ["PATH"], **settings}
    running = Command(["webhook_api", *arguments], cwd=folder, env=environment)
    stdout, stderr = running.communicate(60)
    return running.wait(), stdout, stderr


def test_a_byte_order_mark_in_a_dotenv_does_not_matter(tmp_path: Path) -> None:
    dotenv = "WEBHOOK_SECRET=testsecret\r\n".encode("utf-8-sig")
    done = subprocess.run(
        [sys.executable, "-m", "flask", "--app", "wsgi", "sign"],
        cwd=a_copy(tmp_path, dotenv),
        env={"PATH": os.environ["PATH"]},
        input=b"body",
        capture_output=True,
        check=False,
        timeout=60,
    )

    assert done.stdout.decode().strip() == sign("testsecret", b"body")


def test_settings_are_read_from_a_file_unless_the_environment_has_them(tmp_path: Path) -> None:
    a_copy(
        tmp_path, b"WEBHOOK_SECRET='from $the file'\nDATABASE_URL=sqlite:///file.db\nPORT=none\n"
    )

    _, refused, _ = program(tmp_path, PORT="nonsense")
    _, printed, _ = program(tmp_path, "init-db", PORT=str(free_port()))

    # With a secret, then; and with the environment's port.
    assert "PORT is 'nonsense'" in refused
    assert printed == f"{tmp_path}/file.db: ready\n"
