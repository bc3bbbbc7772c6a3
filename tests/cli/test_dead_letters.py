"""`flask --app wsgi dead-letters`: what could not be stored is shown, and tried again."""

from pathlib import Path

import pytest

from tests.conftest import Api
from tests.providers.conftest import deliver
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
def test_they_are_listed_and_shown(api: Api) -> None:
    body = b'[ "\x1b[31m", "\xff" ]'
    api.deliver("meta", body)
    api.deliver("twilio", b"Body=x")
    [(first,), (second,)] = api.rows("SELECT created_at FROM dead_letters ORDER BY id")

    listed, shown = api.run("dead-letters"), api.run("dead-letters", "show", 1)

    assert listed.exit_code == 0
    assert listed.stdout.splitlines() == [
        f"1  {first}  meta  {len(body)} bytes  not JSON",
        f"2  {second}  twilio  6 bytes  1 messages without a valid id",
    ]
    assert shown.stdout_bytes == body
    assert "x-hub-signature-256: sha256=" in shown.stderr
    for wrong in (["show", "3"], ["replay", "3"]):
        result = api.run("dead-letters", *wrong)
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr == "Error: there is no dead letter 3\n"
    assert api.run("dead-letters", "show", "x").exit_code == 1


def test_what_the_present_code_can_read_is_stored_once(
    api: Api, monkeypatch: pytest.MonkeyPatch
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
            assert api.deliver(provider, body).status_code == 200
    api.deliver("meta", from_meta(a_whatsapp(2)))
    api.deliver("meta", b"{")
    api.deliver("meta", from_meta(a_whatsapp(3), {}))
    [(arrived,)] = api.rows("SELECT created_at FROM dead_letters WHERE provider = 'twilio'")

    one = api.run("dead-letters", "replay", 2)
    rest = api.run("dead-letters", "replay")

    assert (one.exit_code, one.stdout) == (0, "2: created 1, duplicate 0\n")
    assert rest.exit_code == 1
    assert rest.stdout.splitlines() == [
        "1: created 1, duplicate 1",
        "3: created 1, duplicate 0",
        "4: stays, not JSON",
        "5: created 0, duplicate 1; stays, 1 messages without a valid id",
    ]
    assert [number for (number,) in api.rows("SELECT id FROM dead_letters")] == [4, 5]
    removed = api.run("dead-letters", "remove", 4, 9)
    assert (removed.exit_code, removed.stdout) == (1, "1 removed\n")
    assert "1 of them are not there" in removed.stderr
    assert [number for (number,) in api.rows("SELECT id FROM dead_letters")] == [5]
    assert api.get("/messages")["total"] == 5
    assert api.rows("SELECT ts FROM messages WHERE provider = 'twilio'") == [(arrived,)]
    assert differences(api.config.database_path) == []


def test_a_delivery_of_many_messages_is_stored_in_steps(api: Api) -> None:
    api.deliver("meta", from_meta(*some_whatsapps(2500)))

    assert api.run("dead-letters", "replay").stdout == "1: created 2500, duplicate 0\n"

    assert api.rows("SELECT count(*) FROM messages") == [(2500,)]
    assert api.run("dead-letters").stdout == ""


@pytest.mark.usefixtures("app")
def test_a_replay_waits_for_no_removal(api: Api) -> None:
    with removal_lock(Database(api.config.database_path)):
        result = api.run("dead-letters", "replay")

    assert (result.exit_code, result.stderr) == (1, "Error: another process is removing messages\n")
