"""`flask --app wsgi send --as PROVIDER`: signed deliveries in the format of each provider."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask
from werkzeug.serving import make_server

from tests.conftest import Rows
from tests.providers.samples import a_config
from webhook_api.config import Config


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return a_config(tmp_path)


@pytest.fixture
def server(app: Flask) -> Iterator[str]:
    """The URL of the application, served over HTTP."""
    http = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=http.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{http.port}/webhook"
    http.shutdown()
    thread.join()
    http.server_close()


@pytest.mark.parametrize("provider", ["meta", "twilio", "standard"])
def test_each_sample_is_accepted_and_stored(
    app: Flask, server: str, rows: Rows, provider: str
) -> None:
    url = f"{server}/{provider}"

    result = app.test_cli_runner().invoke(
        args=["send", "--as", provider, "--url", url, "--count", "30"]
    )

    assert (result.exit_code, result.stdout.splitlines()[0]) == (0, "200 OK: 30")
    found = rows("SELECT message_id, from_msisdn, text FROM messages")
    assert len({message_id for message_id, _, _ in found}) == 30
    assert all(message_id.startswith(f"{provider}:") for message_id, _, _ in found)
    assert len({text for _, _, text in found}) > 3


def test_the_samples_of_the_specification_go_to_webhook(
    app: Flask, server: str, rows: Rows
) -> None:
    result = app.test_cli_runner().invoke(args=["send", "--url", server, "--count", "3"])

    assert result.stdout.splitlines()[0] == "200 OK: 3"
    assert rows("SELECT count(*) FROM messages WHERE message_id LIKE 'sample-%'") == [(3,)]


def test_no_samples_of_a_provider_without_its_secret(app: Flask, config: Config) -> None:
    app.config["SETTINGS"] = Config(webhook_secret="s", database_path=config.database_path)

    for provider, setting in [
        ("meta", "META_APP_SECRET"),
        ("twilio", "TWILIO_AUTH_TOKEN"),
        ("standard", "STANDARD_WEBHOOKS_SECRET"),
    ]:
        result = app.test_cli_runner().invoke(args=["send", "--as", provider])
        assert (result.exit_code, result.output) == (1, f"Error: {setting} is not set\n")
