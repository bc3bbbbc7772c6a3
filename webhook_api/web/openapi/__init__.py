"""The description of the API (OpenAPI 3.1), served at /openapi.json."""

from functools import cache
from typing import Any

from webhook_api.answers import Alive, Ready
from webhook_api.web.openapi import operations
from webhook_api.web.openapi.responses import FAILURES, HEADERS
from webhook_api.web.openapi.schemas import schemas
from webhook_api.web.openapi.text import (
    ABOUT,
    EXAMPLE_BODY,
    EXAMPLE_SECRET,
    EXAMPLE_SIGNATURE,
    SIGNATURE,
)

API_VERSION = "1.0.0"

Json = dict[str, Any]


@cache
def describe_api() -> Json:
    """Return the OpenAPI document; the same object each time, so do not change it."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "Webhook API", "version": API_VERSION, "description": ABOUT},
        "tags": [
            {"name": "messages", "description": "Deliver messages, and read what was delivered."},
            {"name": "consumers", "description": "Programs whose position is kept here."},
            {"name": "operation", "description": "Probes and metrics."},
            {"name": "description", "description": "This document, and a page to try it."},
        ],
        "paths": {
            "/webhook": {"post": operations.receive_message()},
            "/messages": {"get": operations.show_messages()},
            "/messages/{message_id}": {"get": operations.show_message()},
            "/consumers": {"get": operations.show_consumers()},
            "/consumers/{name}": {
                "get": operations.show_consumer(),
                "put": operations.put_consumer(),
                "delete": operations.delete_consumer(),
            },
            "/stats": {"get": operations.show_stats()},
            "/health/live": {"get": operations.probe("live", "The process serves", Alive, "alive")},
            "/health/ready": {
                "get": operations.probe("ready", "A message could be stored now", Ready, "ready")
            },
            "/health": {
                "get": operations.probe("health", "The same as /health/ready", Ready, "ready")
            },
            "/metrics": {"get": operations.show_metrics()},
            "/openapi.json": {"get": operations.show_description()},
            "/docs": {"get": operations.show_docs()},
            "/docs/{filename}": {"get": operations.show_asset()},
        },
        "components": {
            "schemas": schemas(),
            "responses": {name: response for name, (_, response) in FAILURES.items()},
            "headers": HEADERS,
            "securitySchemes": {
                "signature": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "X-Signature",
                    "description": SIGNATURE,
                    "x-example": {
                        "secret": EXAMPLE_SECRET,
                        "body": EXAMPLE_BODY,
                        "signature": EXAMPLE_SIGNATURE,
                    },
                }
            },
        },
    }
