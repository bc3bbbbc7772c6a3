"""The API: one module for each blueprint."""

from collections.abc import Mapping

from flask import Flask

from webhook_api.providers import Provider
from webhook_api.routes import docs, health, inbox, messages, root, stats, webhook
from webhook_api.routes.providers import provider_routes


def register_routes(app: Flask, providers: Mapping[str, Provider]) -> None:
    """Register every blueprint; `web/metrics.py` registers GET /metrics."""
    app.register_blueprint(health.bp)
    app.register_blueprint(webhook.bp)
    app.register_blueprint(provider_routes(providers))
    app.register_blueprint(messages.bp)
    app.register_blueprint(stats.bp)
    app.register_blueprint(docs.bp)
    app.register_blueprint(inbox.bp)
    app.register_blueprint(root.bp)
