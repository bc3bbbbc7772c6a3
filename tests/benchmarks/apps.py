"""The service with one part exchanged, for comparison: `gunicorn tests.benchmarks.apps:...`."""

import sqlite3
from collections.abc import Sequence

from flask import Flask, request

from webhook_api import create_app
from webhook_api.intake import commit
from webhook_api.models import InboundMessage
from webhook_api.store import messages as storage
from webhook_api.store.database import Database
from webhook_api.store.messages import StoreResult


class _FileNothing:
    """Says that every message was stored."""

    def store(self, _messages: Sequence[InboundMessage]) -> list[StoreResult]:
        return [StoreResult(created=True)]


class _CommitEach:
    """Files each message by itself, on a connection of its own."""

    def __init__(self, database: Database) -> None:
        self._path = database.path

    def store(self, messages: Sequence[InboundMessage]) -> list[StoreResult]:
        connection = sqlite3.connect(self._path, isolation_level=None, timeout=5)
        try:
            connection.execute("PRAGMA synchronous = FULL")
            return storage.insert_messages(connection, messages)
        finally:
            connection.close()


def ceiling() -> Flask:
    """Return the service without its database: all that is left is HTTP, checks, logs, metrics."""
    app = create_app()
    app.extensions["commits"] = _FileNothing()
    return app


def bare() -> Flask:
    """Return a Flask application that reads a delivery and does nothing else, not even log."""
    app = Flask("bare")
    app.extensions |= create_app().extensions  # which gunicorn.conf.py asks for

    @app.post("/webhook")
    def receive() -> dict[str, str]:
        request.get_data()
        return {"status": "ok"}

    @app.get("/health/live")
    def live() -> dict[str, str]:
        return {"status": "alive"}

    return app


def plain() -> Flask:
    """Return the service as one would first write it: a connection and a commit per request."""
    app = create_app()
    app.extensions["commits"] = _CommitEach(app.extensions["database"])
    return app


def unindexed() -> Flask:
    """Return the service without the upkeep of its search index."""
    commit.storage.index_messages = lambda _db, *, most: 0  # type: ignore[attr-defined]
    return create_app()
