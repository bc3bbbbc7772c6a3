"""Adds the read token to the API's description, if READ_TOKEN is set."""

from typing import Any

from webhook_api.web.openapi.responses import error

Json = dict[str, Any]

READS = (
    "/messages", "/messages/{message_id}", "/consumers", "/consumers/{name}", "/stats", "/metrics",
)  # fmt: skip
_SCHEME = "read_token"
_REFUSAL = error(
    "The token is missing or wrong.",
    "a token is needed: Authorization: Bearer TOKEN",
    "WWW-Authenticate",
)
_CHALLENGE = {
    "description": "The scheme, and `invalid_token` if a token was sent (RFC 6750, 3).",
    "required": True,
    "schema": {"type": "string"},
    "example": 'Bearer realm="Webhook API"',
}


def describe_access(document: Json) -> Json:
    """Return `document` with a token required for the reads."""
    components = document["components"]
    scheme = {
        "type": "http",
        "scheme": "bearer",
        "description": "The `READ_TOKEN` that the service is set to.",
    }
    return {
        **document,
        "paths": {
            path: {method: _behind_token(one) for method, one in item.items()}
            if path in READS
            else item
            for path, item in document["paths"].items()
        },
        "components": {
            **components,
            "headers": {**components["headers"], "WWW-Authenticate": _CHALLENGE},
            "responses": {**components["responses"], "TokenNeeded": _REFUSAL},
            "securitySchemes": {**components["securitySchemes"], _SCHEME: scheme},
        },
    }


def _behind_token(operation: Json) -> Json:
    refusal = {"401": {"$ref": "#/components/responses/TokenNeeded"}}
    return {
        **operation,
        "security": [{_SCHEME: []}],
        "responses": {**operation["responses"], **refusal},
    }
