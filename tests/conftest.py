"""Fixtures: the real application on a real SQLite file in the test's own folder."""

import io
import json
import logging
import os
import shutil
import signal
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import settings
from selenium.webdriver import Chrome
from werkzeug.test import TestResponse

from tests.browser import chromium
from tests.builders import SECRET, encode, samples, signed
from webhook_api import close_app, create_app
from webhook_api.config import Config
from webhook_api.models import parse_message
from webhook_api.store.connections import connect
from webhook_api.store.database import Database
from webhook_api.store.lock import LockedConnection, unshared
from webhook_api.store.messages import StoreResult, insert_messages

# The same examples in each run: a failure is the change's own.
settings.register_profile("tests", derandomize=True, database=None, deadline=None, max_examples=60)
settings.load_profile("tests")

Post = Callable[[object], TestResponse]
Rows = Callable[[str], list[Any]]
Store = Callable[..., list[StoreResult]]
Get = Callable[..., Any]
Logged = Callable[[], list[dict[str, Any]]]
Scrape = Callable[[], dict[str, float]]


def pytest_configure() -> None:
    """Let Ctrl-C be seen, also if a shell has started the tests in the background without it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_xdist_auto_num_workers() -> int:
    """Run one process more than there are cores: many tests wait for most of their time."""
    return (os.cpu_count() or 1) + 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests with a browser first, so that one process runs them all, with one browser."""
    items.sort(key=lambda item: "browser" not in getattr(item, "fixturenames", ()))


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(
        webhook_secret=SECRET,
        database_path=tmp_path / "app.db",
        read_deadline_s=60,  # reads have a low priority: a busy machine lets them wait
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
def app(config: Config, new_database: Path) -> Iterator[Flask]:
    shutil.copyfile(new_database, config.database_path)
    app = create_app(config)
    yield app
    close_app(app)


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


@pytest.fixture
def post_signed(client: FlaskClient) -> Post:
    """Deliver a payload, or raw bytes, to POST /webhook with the right signature."""

    def post(payload: object) -> TestResponse:
        body = payload if isinstance(payload, bytes) else encode(payload)
        return client.post("/webhook", data=body, headers=signed(body))

    return post


@pytest.fixture
def writer(app: Flask, config: Config) -> Iterator[LockedConnection]:
    """The test's own connection, which may write."""
    connection = unshared(connect(config.database_path, "rw", timeout_s=5))
    yield connection
    connection.close()


@pytest.fixture
def store(writer: LockedConnection) -> Store:
    """Store payloads as one batch, without HTTP."""

    def store(*payloads: object) -> list[StoreResult]:
        return insert_messages(writer, [parse_message(payload) for payload in payloads])

    return store


@pytest.fixture
def rows(app: Flask, config: Config) -> Rows:
    """Query the database file through the test's own connection."""

    def query(sql: str) -> list[Any]:
        connection = sqlite3.connect(config.database_path)
        try:
            return connection.execute(sql).fetchall()
        finally:
            connection.close()

    return query


@pytest.fixture
def get(client: FlaskClient) -> Get:
    """Return the JSON of a GET that must succeed; keywords are parameters, `from_` is `from`."""

    def get(path: str, **parameters: object) -> Any:
        query = {name.rstrip("_"): value for name, value in parameters.items()}
        response = client.get(path, query_string=query)
        assert response.status_code == 200, response.text
        return response.json

    return get


@pytest.fixture
def written(app: Flask) -> Iterator[io.StringIO]:
    """What the application's log handler writes, instead of to stdout."""
    handler = logging.getLogger().handlers[0]
    assert isinstance(handler, logging.StreamHandler)
    stream = io.StringIO()
    stdout = handler.setStream(stream)
    yield stream
    handler.setStream(stdout)


@pytest.fixture
def logged(written: io.StringIO) -> Logged:
    """Return the log lines written so far; each must be JSON."""
    return lambda: [json.loads(line) for line in written.getvalue().splitlines()]


@pytest.fixture
def scrape(client: FlaskClient) -> Scrape:
    """Return the value of every series of GET /metrics."""

    def scrape() -> dict[str, float]:
        response = client.get("/metrics")
        assert response.status_code == 200
        return samples(response.text)

    return scrape


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
