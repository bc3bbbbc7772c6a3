"""Probes: live whenever the process serves, ready when a message could be stored."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.builders import a_message
from tests.conftest import Api
from webhook_api.store.schema import SCHEMA_VERSION


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
    api: Api, change: Callable[[Path], object], detail: str
) -> None:
    change(api.path)

    response = api.client.get("/health/ready")

    assert response.status_code == 503
    assert detail in response.text
    assert api.client.get("/health/live").status_code == 200


def test_a_probe_changes_no_message(api: Api) -> None:
    api.post(a_message())
    all_but_probes = "SELECT messages, senders, deletions, indexed FROM totals"
    before = api.rows(all_but_probes)

    api.client.get("/health/ready")

    assert api.rows(all_but_probes) == before
    assert api.rows("SELECT count(*) FROM messages") == [(1,)]


def test_counters_that_another_program_removed_are_named_and_not_a_500(api: Api) -> None:
    api.writer.execute("DELETE FROM totals")

    ready, page, metrics = (api.client.get(path) for path in ("/health", "/messages", "/metrics"))

    assert (ready.status_code, page.status_code, metrics.status_code) == (503, 503, 200)
    assert "totals" in ready.text
    assert "totals" in page.text
