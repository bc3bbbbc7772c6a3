"""Fixtures for the commands: to run them, and what they work on."""

import logging
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from flask import Flask
from werkzeug.serving import make_server

from tests.builders import SECRET, a_message, an_app
from tests.conftest import Api
from tests.store.files import NUMBER, TEXT
from webhook_api import close_app
from webhook_api.config import Config
from webhook_api.maintenance.backup import back_up
from webhook_api.store.database import Database


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Flask]:
    """An application on another, empty file."""
    app = an_app(Config(webhook_secret=SECRET, database_path=tmp_path / "other" / "app.db"))
    yield app
    close_app(app)


@pytest.fixture
def server(app: Flask) -> Iterator[str]:
    """The URL of the application, which this process serves over HTTP without logs."""
    logging.disable(logging.INFO)
    http = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=http.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{http.port}/webhook"
    http.shutdown()
    thread.join()
    http.server_close()
    logging.disable(logging.NOTSET)


@pytest.fixture
def talk(api: Api) -> None:
    """Messages from the number, to it, and between others, in this order."""
    api.post(a_message(message_id="from", sender=NUMBER, text=TEXT))
    api.post(a_message(message_id="to", to=NUMBER, text=TEXT))
    api.post(a_message(message_id="other", text="Hello"))


@pytest.fixture
def backup(api: Api, tmp_path: Path) -> Path:
    """A backup with one message, `kept`; the database has `newer` as well."""
    api.post(a_message(message_id="kept", text="first"))
    with closing(Database(api.config.database_path)) as database:
        back_up(database, tmp_path / "b.db")
    api.post(a_message(message_id="newer", text="second"))
    return tmp_path / "b.db"
