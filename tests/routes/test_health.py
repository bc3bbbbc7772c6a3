"""Probes: live whenever the process serves, ready when a message could be stored."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

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


def with_version(version: int) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        with closing(sqlite3.connect(path)) as db:
            db.execute(f"PRAGMA user_version = {version}")

    return change


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        (lambda path: path.write_bytes(b"garbage" * 1000), "not a database"),
        *((with_version(version), f"version is {version}, expected is {SCHEMA_VERSION}")
          for version in (0, SCHEMA_VERSION - 1, SCHEMA_VERSION + 1)),
    ],
    ids=["garbage", "no version", "older", "newer"],
)  # fmt: skip
def test_another_file_or_version_is_live_and_not_ready(
    client: FlaskClient, config: Config, change: Callable[[Path], object], detail: str
) -> None:
    change(config.database_path)

    response = client.get("/health/ready")

    assert response.status_code == 503
    assert detail in response.text
    assert client.get("/health/live").status_code == 200


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
