"""Probes: live whenever the process serves, ready when a message could be stored."""

import sqlite3

import pytest
from flask.testing import FlaskClient

from tests.builders import a_message
from tests.conftest import Post, Rows
from webhook_api.config import Config
from webhook_api.store.connections import Connection
from webhook_api.store.schema import SCHEMA_VERSION


@pytest.mark.parametrize("path", ["/health", "/health/live", "/health/ready"])
def test_a_service_that_works_is_live_and_ready(client: FlaskClient, path: str) -> None:
    assert client.get(path).status_code == 200


@pytest.mark.parametrize("path", ["/health", "/health/ready"])
def test_a_missing_file_is_not_ready_and_is_not_created(
    client: FlaskClient, config: Config, path: str
) -> None:
    config.database_path.unlink()

    response = client.get(path)

    assert response.status_code == 503
    assert response.json == {"detail": "database: No such file or directory"}
    assert not config.database_path.exists()
    assert client.get("/health/live").status_code == 200


@pytest.mark.parametrize("version", [0, SCHEMA_VERSION - 1, SCHEMA_VERSION + 1])
def test_another_schema_version_is_not_ready(
    client: FlaskClient, config: Config, version: int
) -> None:
    db = sqlite3.connect(config.database_path)
    db.execute(f"PRAGMA user_version = {version}")
    db.close()

    response = client.get("/health/ready")

    assert response.status_code == 503
    assert f"version is {version}, expected is {SCHEMA_VERSION}" in response.text
    assert client.get("/health/live").status_code == 200


def test_a_file_that_is_not_a_database_is_not_ready(client: FlaskClient, config: Config) -> None:
    config.database_path.write_bytes(b"garbage" * 1000)

    response = client.get("/health/ready")

    assert response.status_code == 503
    assert "not a database" in response.text


def test_a_database_that_another_program_writes_is_not_ready_until_it_is_done(
    client: FlaskClient, config: Config
) -> None:
    other = sqlite3.connect(config.database_path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    locked = client.get("/health/ready")
    reading = client.get("/messages")
    live = client.get("/health/live")
    other.execute("ROLLBACK")
    other.close()

    assert locked.status_code == 503
    assert "another program" in locked.text
    assert (reading.status_code, live.status_code) == (200, 200)
    assert client.get("/health/ready").status_code == 200


def test_a_probe_changes_no_message(client: FlaskClient, post_signed: Post, rows: Rows) -> None:
    post_signed(a_message())
    all_but_probes = "SELECT messages, senders, deletions, indexed FROM totals"
    before = rows(all_but_probes)

    client.get("/health/ready")

    assert rows(all_but_probes) == before
    assert rows("SELECT count(*) FROM messages") == [(1,)]


def test_counters_that_another_program_removed_are_named_and_not_a_500(
    client: FlaskClient, writer: Connection
) -> None:
    writer.execute("DELETE FROM totals")

    ready, page, metrics = (client.get(path) for path in ("/health", "/messages", "/metrics"))

    assert (ready.status_code, page.status_code, metrics.status_code) == (503, 503, 200)
    assert "totals" in ready.text
    assert "totals" in page.text
