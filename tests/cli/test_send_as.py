"""`flask --app wsgi send --as PROVIDER`: signed deliveries in the format of each provider."""

from pathlib import Path

import pytest

from tests.conftest import Api
from tests.providers.samples import a_config
from webhook_api.config import Config


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return a_config(tmp_path)


@pytest.mark.parametrize("provider", ["meta", "twilio", "standard"])
def test_each_sample_is_accepted_and_stored(api: Api, server: str, provider: str) -> None:
    url = f"{server}/{provider}"

    result = api.run("send", "--as", provider, "--url", url, "--count", 30)

    assert (result.exit_code, result.stdout.splitlines()[0]) == (0, "200 OK: 30")
    assert api.rows("SELECT count(*) FROM dead_letters") == [(0,)]
    found = api.rows("SELECT message_id, from_msisdn, text FROM messages")
    assert len({message_id for message_id, _, _ in found}) == 30
    assert all(message_id.startswith(f"{provider}:") for message_id, _, _ in found)
    assert len({text for _, _, text in found}) > 3
    kinds = api.rows("SELECT count(DISTINCT coalesce(kind, '')) FROM messages")[0][0]
    assert kinds > (3 if provider == "meta" else 1)


def test_the_samples_of_the_specification_go_to_webhook(api: Api, server: str) -> None:
    result = api.run("send", "--url", server, "--count", 3)

    assert result.stdout.splitlines()[0] == "200 OK: 3"
    assert api.rows("SELECT count(*) FROM messages WHERE message_id LIKE 'sample-%'") == [(3,)]
