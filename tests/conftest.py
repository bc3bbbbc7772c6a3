"""Fixtures: the real application on a real SQLite file in the test's own folder."""

import io
import json
import logging
import os
import shutil
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import settings
from selenium.webdriver import Chrome
from werkzeug.test import TestResponse

from tests.browser import chromium
from tests.builders import SECRET, encode, samples, signed
from tests.intake.commits import Record, group
from tests.providers.samples import signed_as
from webhook_api import close_app, create_app
from webhook_api.config import Config
from webhook_api.intake.group_commit import GroupCommit
from webhook_api.models import parse_message
from webhook_api.routes import health
from webhook_api.store.connections import connect
from webhook_api.store.database import Database
from webhook_api.store.lock import LockedConnection, unshared
from webhook_api.store.messages import StoreResult, insert_messages

# The same examples in each run: a failure is the change's own.
settings.register_profile("tests", derandomize=True, database=None, deadline=None, max_examples=60)
settings.load_profile("tests")


def pytest_configure() -> None:
    """Let Ctrl-C be seen, also if a shell has started the tests in the background without it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_xdist_auto_num_workers() -> int:
    """Run one process more than there are cores: many tests wait for most of their time."""
    return (os.cpu_count() or 1) + 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests with a browser first, so that one process runs them all, with one browser."""
    items.sort(key=lambda item: "browser" not in getattr(item, "fixturenames", ()))


DEADLINE_S = 60.0  # a busy machine or disk lets all wait


@pytest.fixture(autouse=True)
def patient_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "PROBE_DEADLINE_S", DEADLINE_S)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(
        webhook_secret=SECRET,
        database_path=tmp_path / "app.db",
        commit_deadline_s=DEADLINE_S,
        read_deadline_s=DEADLINE_S,
        check_connections=True,
    )


@pytest.fixture(scope="session")
def new_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new database file, which tests copy: 2 ms for each test instead of 10."""
    path = tmp_path_factory.mktemp("new") / "app.db"
    database = Database(path)
    database.prepare(create=True)
    database.close()
    return path


@pytest.fixture
def database(tmp_path: Path, new_database: Path) -> Iterator[Database]:
    shutil.copyfile(new_database, tmp_path / "app.db")
    database = Database(tmp_path / "app.db", check_connections=True)
    yield database
    database.close()


@pytest.fixture
def record() -> Iterator[Record]:
    record = Record()
    yield record
    for commits in record.observed:
        commits.close()


@pytest.fixture
def commits(database: Database, record: Record) -> GroupCommit:
    return group(database, record)


@pytest.fixture
def app(config: Config, new_database: Path) -> Iterator[Flask]:
    shutil.copyfile(new_database, config.database_path)
    app = create_app(config)
    yield app
    close_app(app)


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


class Api:
    """The application of one test: what the test does with it, and what it sees of it."""

    def __init__(self, app: Flask, client: FlaskClient, config: Config) -> None:
        self.app, self.client, self.config = app, client, config
        self.path = config.database_path
        self._log = logging.getLogger().handlers[0]
        assert isinstance(self._log, logging.StreamHandler)
        self.written = io.StringIO()  # instead of to stdout
        self._stdout = self._log.setStream(self.written)

    def close(self) -> None:
        self._log.setStream(self._stdout)  # type: ignore[attr-defined]
        if "writer" in vars(self):
            self.writer.close()

    def post(self, payload: object) -> TestResponse:
        """Deliver a payload, or raw bytes, to POST /webhook with the right signature."""
        body = payload if isinstance(payload, bytes) else encode(payload)
        return self.client.post("/webhook", data=body, headers=signed(body))

    def deliver(self, provider: str, body: bytes, **options: Any) -> TestResponse:
        """Deliver a body as a provider does, with the right signature."""
        headers = signed_as(provider, body, now=time.time(), **options)
        return self.client.post(f"/webhook/{provider}", data=body, headers=headers)

    def get(self, path: str, **parameters: object) -> Any:
        """Return the JSON of a GET that must succeed; the parameter `from_` is `from`."""
        query = {name.rstrip("_"): value for name, value in parameters.items()}
        response = self.client.get(path, query_string=query)
        assert response.status_code == 200, response.text
        return response.json

    def run(self, *args: object, stdin: bytes | None = None) -> Result:
        """Run a command, and return its output and exit code."""
        return self.app.test_cli_runner().invoke(args=[str(arg) for arg in args], input=stdin)

    def ran(self, *args: object, stdin: bytes | None = None) -> tuple[int, str, str]:
        """Run a command; return its exit code, stdout and stderr."""
        result = self.run(*args, stdin=stdin)
        return result.exit_code, result.stdout, result.stderr

    @cached_property
    def writer(self) -> LockedConnection:
        """The test's own connection, which may write."""
        return unshared(connect(self.path, "rw", timeout_s=5))

    def store(self, *payloads: object) -> list[StoreResult]:
        """Store payloads as one batch, without HTTP."""
        return insert_messages(self.writer, [parse_message(payload) for payload in payloads])

    def rows(self, sql: str) -> list[Any]:
        """Query the database file through a connection of its own."""
        with closing(sqlite3.connect(self.path)) as connection:
            return connection.execute(sql).fetchall()

    def damage(self, sql: str) -> None:
        """Change the database file while the service does not know it."""
        with closing(sqlite3.connect(self.path)) as connection:
            connection.executescript(sql)

    def logged(self) -> list[dict[str, Any]]:
        """Return the log lines written so far; each must be JSON."""
        return [json.loads(line) for line in self.written.getvalue().splitlines()]

    def scrape(self) -> dict[str, float]:
        """Return the value of every series of GET /metrics."""
        response = self.client.get("/metrics")
        assert response.status_code == 200
        return samples(response.text)


@pytest.fixture
def api(app: Flask, client: FlaskClient, config: Config) -> Iterator[Api]:
    api = Api(app, client, config)
    yield api
    api.close()


@pytest.fixture(scope="session")
def chrome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    with chromium(tmp_path_factory.mktemp("profile")) as chrome:
        yield chrome


@pytest.fixture
def browser(chrome: Chrome) -> Chrome:
    """One browser for all tests of a process, which takes seconds to start, as if it were new."""
    for reset in ("clearDeviceMetricsOverride", "setEmulatedMedia"):
        chrome.execute_cdp_cmd(f"Emulation.{reset}", {})
    chrome.get("about:blank")
    chrome.execute_cdp_cmd("Network.clearBrowserCookies", {})
    for log in ("browser", "performance"):
        chrome.get_log(log)  # type: ignore[no-untyped-call]  # what earlier tests left is read away
    return chrome
