"""The service with one part replaced, for comparison; Gunicorn loads these by name."""

from collections.abc import Sequence

from flask import Flask

from tests.tools.benchmarks import plain
from webhook_api import create_app
from webhook_api.config import Config
from webhook_api.models import InboundMessage
from webhook_api.services import services_of
from webhook_api.store import writer
from webhook_api.store.messages import StoreResult


def _store_nothing(messages: Sequence[InboundMessage]) -> list[StoreResult]:
    """Say that every message was stored."""
    return [StoreResult(created=True)] * len(messages)


def ceiling(config: Config | None = None) -> Flask:
    """Return the service without its database: only HTTP, checks, logs and metrics."""
    app = create_app(config)
    services_of(app).commits.store = _store_nothing  # type: ignore[method-assign]
    return app


def bare() -> Flask:
    """Return the bare application with the extensions that gunicorn.conf.py needs."""
    app = plain.bare()
    app.extensions |= create_app().extensions
    return app


def unindexed() -> Flask:
    """Return the service without the upkeep of its search index."""
    writer.Writer.index_or_checkpoint_is_due = False  # type: ignore[method-assign,assignment]
    return create_app()
