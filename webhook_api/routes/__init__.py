"""The API: one module for each blueprint.

A view fails by an exception, of `errors.py` or Werkzeug's; `web/error_handlers.py` responds.
"""

from collections.abc import Mapping

from flask import Flask

from webhook_api.providers import Provider
from webhook_api.routes import consumers, docs, health, inbox, messages, stats, webhook


def register_routes(app: Flask, providers: Mapping[str, Provider]) -> None:
    """Register every blueprint; `web/metrics.py` registers GET /metrics."""
    for module in (health, webhook, messages, consumers, stats, docs, inbox):
        app.register_blueprint(module.bp)
    app.register_blueprint(webhook.provider_routes(providers))
