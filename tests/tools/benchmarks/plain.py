"""Flask applications to compare the service with; they use none of its code.

    gunicorn -c python:tests.tools.benchmarks -w 2 'tests.tools.benchmarks.plain:first_version()'

`writes.py` starts them. The empty settings keep Gunicorn from reading ./gunicorn.conf.py.
"""

import hmac
import os
import sqlite3
from contextlib import closing
from http import HTTPStatus
from typing import Any

from flask import Flask, request

_TABLE = """CREATE TABLE IF NOT EXISTS messages (
    message_id TEXT PRIMARY KEY, from_msisdn TEXT, to_msisdn TEXT, ts TEXT, text TEXT)"""
_INSERT = "INSERT INTO messages VALUES (:message_id, :from, :to, :ts, :text) ON CONFLICT DO NOTHING"


def bare() -> Flask:
    """Return an application that reads a delivery and does nothing else, not even log."""
    app = Flask("bare")
    app.add_url_rule("/health/live", view_func=_live)

    @app.post("/webhook")
    def receive() -> dict[str, str]:
        request.get_data()
        return {"status": "ok"}

    return app


def first_version() -> Flask:
    """Return a simple first version of the webhook: a connection and a commit for each request.

    Each answer is on disk, as the service's are. Fields are not validated, nothing is logged.
    """
    app = Flask("first_version")
    app.add_url_rule("/health/live", view_func=_live)
    secret = os.environ["WEBHOOK_SECRET"].encode()
    path = os.environ["DATABASE_URL"].removeprefix("sqlite:///")
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute(_TABLE)

    @app.post("/webhook")
    def receive() -> Any:
        signature = hmac.digest(secret, request.get_data(), "sha256").hex()
        if not hmac.compare_digest(signature, request.headers.get("X-Signature", "")):
            return {"detail": "invalid signature"}, HTTPStatus.UNAUTHORIZED
        with closing(sqlite3.connect(path, timeout=5)) as db, db:
            db.execute("PRAGMA synchronous = FULL")
            db.execute(_INSERT, request.get_json(force=True))
        return {"status": "ok"}

    return app


def _live() -> dict[str, str]:
    return {"status": "alive"}
