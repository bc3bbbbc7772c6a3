"""Fixtures: the real application on a real SQLite file in the test's own folder."""

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from tests.builders import SECRET, encode, signed
from webhook_api import create_app
from webhook_api.config import Config

Post = Callable[[object], TestResponse]


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(webhook_secret=SECRET, database_path=tmp_path / "app.db")


@pytest.fixture
def app(config: Config) -> Iterator[Flask]:
    app = create_app(config)
    yield app
    app.extensions["commits"].close()
    app.extensions["database"].close()


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
def rows(app: Flask, config: Config) -> Callable[[str], list[Any]]:
    """Query the database file through a connection of the test's own."""

    def query(sql: str) -> list[Any]:
        connection = sqlite3.connect(config.database_path)
        try:
            return connection.execute(sql).fetchall()
        finally:
            connection.close()

    return query
