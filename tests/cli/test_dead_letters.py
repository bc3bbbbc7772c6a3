"""`flask --app wsgi dead-letters`: what could not be stored is shown, and tried again."""

from pathlib import Path

import pytest

from tests.cli.running import Run
from tests.conftest import Get, Rows
from tests.providers.conftest import Deliver, deliver
from tests.providers.samples import (
    a_config,
    a_whatsapp,
    from_meta,
    from_standard,
    from_twilio,
    some_whatsapps,
)
from tests.store.files import differences
from webhook_api.config import Config
from webhook_api.maintenance.removal import removal_lock
from webhook_api.providers import PARSERS
from webhook_api.store.database import Database

__all__ = ["deliver"]


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return a_config(tmp_path)


@pytest.mark.usefixtures("app")
def test_they_are_listed_and_shown(run: Run, deliver: Deliver, rows: Rows) -> None:
    body = b'[ "\x1b[31m", "\xff" ]'
    deliver("meta", body)
    deliver("twilio", b"Body=x")
    [(first,), (second,)] = rows("SELECT created_at FROM dead_letters ORDER BY id")

    listed, shown = run("dead-letters"), run("dead-letters", "show", 1)

    assert listed.exit_code == 0
    assert listed.stdout.splitlines() == [
        f"1  {first}  meta  {len(body)} bytes  not JSON",
        f"2  {second}  twilio  6 bytes  1 messages without a valid id",
    ]
    assert shown.stdout_bytes == body
    assert "x-hub-signature-256: sha256=" in shown.stderr
    for wrong in (["show", "3"], ["replay", "3"]):
        result = run("dead-letters", *wrong)
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr == "Error: there is no dead letter 3\n"
    assert run("dead-letters", "show", "x").exit_code == 1


def test_what_the_present_code_can_read_is_stored_once(
    run: Run,
    deliver: Deliver,
    rows: Rows,
    get: Get,
    config: Config,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bodies = {
        "meta": from_meta(a_whatsapp(1), a_whatsapp(2)),
        "twilio": from_twilio(),
        "standard": from_standard(message_id="s"),
    }
    with monkeypatch.context() as earlier:
        for provider in bodies:
            earlier.setitem(PARSERS, provider, lambda *_: 1 / 0)
        for provider, body in bodies.items():
            assert deliver(provider, body).status_code == 200
    deliver("meta", from_meta(a_whatsapp(2)))
    deliver("meta", b"{")
    deliver("meta", from_meta(a_whatsapp(3), {}))
    [(arrived,)] = rows("SELECT created_at FROM dead_letters WHERE provider = 'twilio'")

    one = run("dead-letters", "replay", 2)
    rest = run("dead-letters", "replay")

    assert (one.exit_code, one.stdout) == (0, "2: created 1, duplicate 0\n")
    assert rest.exit_code == 1
    assert rest.stdout.splitlines() == [
        "1: created 1, duplicate 1",
        "3: created 1, duplicate 0",
        "4: stays, not JSON",
        "5: created 0, duplicate 1; stays, 1 messages without a valid id",
    ]
    assert [number for (number,) in rows("SELECT id FROM dead_letters")] == [4, 5]
    assert run("dead-letters", "remove", 4, 9).stdout == "1 removed\n"
    assert [number for (number,) in rows("SELECT id FROM dead_letters")] == [5]
    assert get("/messages")["total"] == 5
    assert rows("SELECT ts FROM messages WHERE provider = 'twilio'") == [(arrived,)]
    assert differences(config.database_path) == []


def test_a_delivery_of_many_messages_is_stored_in_steps(
    run: Run, deliver: Deliver, rows: Rows
) -> None:
    deliver("meta", from_meta(*some_whatsapps(2500)))

    assert run("dead-letters", "replay").stdout == "1: created 2500, duplicate 0\n"

    assert rows("SELECT count(*) FROM messages") == [(2500,)]
    assert run("dead-letters").stdout == ""


@pytest.mark.usefixtures("app")
def test_a_replay_waits_for_no_removal(run: Run, config: Config) -> None:
    with removal_lock(Database(config.database_path)):
        result = run("dead-letters", "replay")

    assert (result.exit_code, result.stderr) == (1, "Error: another process is removing messages\n")
