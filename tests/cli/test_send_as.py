"""`flask --app wsgi send --as PROVIDER`: signed deliveries in the format of each provider."""

from pathlib import Path

import pytest

from tests.cli.running import Run
from tests.conftest import Rows
from tests.providers.samples import a_config
from webhook_api.config import Config


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return a_config(tmp_path)


@pytest.mark.parametrize("provider", ["meta", "twilio", "standard"])
def test_each_sample_is_accepted_and_stored(
    run: Run, server: str, rows: Rows, provider: str
) -> None:
    url = f"{server}/{provider}"

    result = run("send", "--as", provider, "--url", url, "--count", 30)

    assert (result.exit_code, result.stdout.splitlines()[0]) == (0, "200 OK: 30")
    assert rows("SELECT count(*) FROM dead_letters") == [(0,)]
    found = rows("SELECT message_id, from_msisdn, text FROM messages")
    assert len({message_id for message_id, _, _ in found}) == 30
    assert all(message_id.startswith(f"{provider}:") for message_id, _, _ in found)
    assert len({text for _, _, text in found}) > 3
    kinds = rows("SELECT count(DISTINCT coalesce(kind, '')) FROM messages")[0][0]
    assert kinds > (3 if provider == "meta" else 1)


def test_the_samples_of_the_specification_go_to_webhook(run: Run, server: str, rows: Rows) -> None:
    result = run("send", "--url", server, "--count", 3)

    assert result.stdout.splitlines()[0] == "200 OK: 3"
    assert rows("SELECT count(*) FROM messages WHERE message_id LIKE 'sample-%'") == [(3,)]
