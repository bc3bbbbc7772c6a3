"""The API's description, OpenAPI 3.1, made from the models that validate what comes in."""

import json
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, models_json_schema

from webhook_api.errors import RETRY_AFTER_S
from webhook_api.listing import NDJSON
from webhook_api.models import Cursor, InboundMessage, Instant, MessageQuery, StatsQuery
from webhook_api.replies import (
    Accepted,
    Alive,
    Error,
    Faults,
    Message,
    Page,
    Ready,
    Reply,
    Statistics,
)

API_VERSION = "1.0.0"
ASSETS = Path(__file__).with_name("static")

Json = dict[str, Any]

# A delivery to check one's own code by: its signature was made with openssl.
EXAMPLE_SECRET = "testsecret"  # noqa: S105
EXAMPLE_BODY = (
    '{"message_id":"m1","from":"+919876543210","to":"+14155550100",'
    '"ts":"2025-01-15T10:00:00Z","text":"Hello"}'
)
EXAMPLE_SIGNATURE = "ff1016e524bc9299d18988ecf27a880af9428140e3850af0c73ea1eef091a4cb"
_MESSAGE: Json = json.loads(EXAMPLE_BODY)

_ABOUT = """\
Receives signed messages and files each of them exactly once.

* A delivery is answered 200 once its message is on disk, and again for each repeat of it.
  Anything else means: deliver again, unless the request itself is at fault (401, 413, 422).
* Errors are JSON: `{"detail": ...}`. A path that does not exist is 404; a method that a path
  does not have is 405, with `Allow`.
* GET routes answer HEAD, and every route OPTIONS.
* Each reply names itself in `X-Request-ID`; the service's log line of that request has the same.
"""

_SIGNATURE = (
    "The HMAC-SHA256 of the body's bytes, exactly as they are sent, under the secret shared with"
    " the provider: hex of either case, which may follow `sha256=`."
)

_DELIVERY = f"""\
The size is looked at first, then the signature, and only then what the body says. `Content-Type`
is not looked at: a body is read as JSON (UTF-8) whatever it is called. A repeat of a `message_id`
is answered as the first delivery was, and the first one is kept.

`X-Signature` is the HMAC-SHA256 of the body's bytes, exactly as they are sent, under the secret
shared with the provider, in hex:

    BODY='{EXAMPLE_BODY}'
    SIGNATURE=$(printf %s "$BODY" | openssl dgst -sha256 -hmac "$WEBHOOK_SECRET" -r | cut -d' ' -f1)
    curl -H "X-Signature: $SIGNATURE" -d "$BODY" http://localhost:8000/webhook

With the secret `{EXAMPLE_SECRET}` the signature of these {len(EXAMPLE_BODY)} bytes is
`{EXAMPLE_SIGNATURE}`.
"""

_LISTING = """\
Ordered by the instant that `ts` names, then by `message_id`. An empty parameter counts as absent.

The `Link` header leads to the next page, at a cost that does not grow with the way already gone.
With `Accept: application/x-ndjson` all messages that match come in one reply, a line for each;
`limit`, `offset` and `cursor` have no meaning then.
"""

_NEXT_PAGE = f"/messages?limit=50&cursor={Cursor(Instant(1736935200, 0), 1).encode()}"


@cache
def describe_api() -> Json:
    """Return the OpenAPI document; the same object each time, so do not change it."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "Webhook API", "version": API_VERSION, "description": _ABOUT},
        "tags": [
            {"name": "messages", "description": "Deliver messages, and read what was delivered."},
            {"name": "operation", "description": "Probes and metrics."},
            {"name": "description", "description": "This document, and a page to try it."},
        ],
        "paths": {
            "/webhook": {"post": _receive_message()},
            "/messages": {"get": _show_messages()},
            "/stats": {"get": _show_stats()},
            "/health/live": {"get": _probe("live", "The process serves", Alive, "alive")},
            "/health/ready": {
                "get": _probe("ready", "A message could be filed now", Ready, "ready")
            },
            "/health": {"get": _probe("health", "The same as /health/ready", Ready, "ready")},
            "/metrics": {"get": _show_metrics()},
            "/openapi.json": {"get": _show_description()},
            "/docs": {"get": _show_docs()},
            "/docs/{filename}": {"get": _show_asset()},
        },
        "components": {
            "schemas": _schemas(),
            "responses": {name: reply for name, (_, reply) in _FAILURES.items()},
            "headers": _HEADERS,
            "securitySchemes": {
                "signature": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "X-Signature",
                    "description": _SIGNATURE,
                    "x-example": {
                        "secret": EXAMPLE_SECRET,
                        "body": EXAMPLE_BODY,
                        "signature": EXAMPLE_SIGNATURE,
                    },
                }
            },
        },
    }


class _Untitled(GenerateJsonSchema):
    def field_title_should_be_set(self, schema: Any) -> bool:
        # "Message Id" says nothing that `message_id` does not.
        return False


def _schemas() -> Json:
    models: list[type[BaseModel]] = [
        InboundMessage, Accepted, Message, Page, Statistics, Alive, Ready, Error, Faults,
    ]  # fmt: skip
    _, schemas = models_json_schema(
        [(model, "validation") for model in models],
        ref_template="#/components/schemas/{model}",
        schema_generator=_Untitled,
    )
    definitions: Json = schemas["$defs"]
    return definitions


def _parameters(model: type[BaseModel]) -> list[Json]:
    """Return the fields of a query model as query parameters."""
    properties = model.model_json_schema(schema_generator=_Untitled)["properties"]
    return [_parameter(name, schema) for name, schema in properties.items()]


def _parameter(name: str, schema: Json) -> Json:
    described = {
        "name": name,
        "in": "query",
        "description": schema.pop("description"),
        "allowEmptyValue": True,
    }
    examples = schema.pop("examples", None)
    if "anyOf" in schema:
        # A URL cannot say null: a parameter that may be None is one that may be left out.
        schema = schema["anyOf"][0]
    if examples:
        # Not as the parameter's `example`, which Swagger UI sends unless it is deleted.
        schema = {**schema, "examples": examples}
        described["description"] += f" Example: `{examples[0]}`"
    return {**described, "schema": schema}


_HEADERS: Json = {
    "X-Request-ID": {
        "description": "The request's name in the log.",
        "required": True,
        "schema": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
    },
    "Retry-After": {
        "description": "Seconds to wait before the next attempt.",
        "required": True,
        "schema": {"type": "integer", "minimum": 0},
        "example": RETRY_AFTER_S,
    },
    "Link": {
        "description": 'The next page, as `<...>; rel="next"` (RFC 8288); absent on the last.',
        "schema": {"type": "string"},
        "example": f'<{_NEXT_PAGE}>; rel="next"',
    },
    "Allow": {
        "description": "The methods that the path has.",
        "required": True,
        "schema": {"type": "string"},
        "example": "POST, OPTIONS",
    },
}


def _reply(description: str, content: Json, *headers: str) -> Json:
    names = ("X-Request-ID", *headers)
    return {
        "description": description,
        "headers": {name: {"$ref": f"#/components/headers/{name}"} for name in names},
        "content": content,
    }


def _json(model: type[Reply], example: object) -> Json:
    schema = {"$ref": f"#/components/schemas/{model.__name__}"}
    return {"application/json": {"schema": schema, "example": example}}


def _text(*media_types: str) -> Json:
    return {media_type: {"schema": {"type": "string"}} for media_type in media_types}


def _error(description: str, detail: str, *headers: str) -> Json:
    return _reply(description, _json(Error, {"detail": detail}), *headers)


def _faults(type_: str, loc: list[str], msg: str) -> Json:
    return {"detail": [{"type": type_, "loc": loc, "msg": msg}]}


# What may go wrong: by name, the status and the reply.
_FAILURES: dict[str, tuple[int, Json]] = {
    "InvalidSignature": (
        401,
        _error(
            "The signature is missing, or is not that of these bytes. Nothing was filed.",
            "invalid signature",
        ),
    ),
    "NotFound": (
        404,
        _error("There is no such path.", "The requested URL was not found on the server."),
    ),
    "MethodNotAllowed": (
        405,
        _error(
            "The path does not have this method.",
            "The method is not allowed for the requested URL.",
            "Allow",
        ),
    ),
    "BodyGarbled": (
        400,
        _error(
            "The body breaks the framing of HTTP.", "request body is not framed as HTTP wants it"
        ),
    ),
    "BodyIncomplete": (
        408,
        _error("The body did not arrive whole in time.", "request body did not arrive whole"),
    ),
    "BodyTooLarge": (
        413,
        _error(
            "The body is longer than the service takes: 262,144 bytes, unless it is set otherwise.",
            "request body is longer than 262144 bytes",
        ),
    ),
    "InvalidBody": (
        422,
        _reply(
            "The signature is right, but the body is no valid message. Nothing was filed.",
            _json(Faults, _faults("missing", ["body", "message_id"], "Field required")),
        ),
    ),
    "InvalidQuery": (
        422,
        _reply(
            "A parameter breaks its rule.",
            _json(
                Faults, _faults("int_parsing", ["query", "limit"], "Input should be a whole number")
            ),
        ),
    ),
    "Unavailable": (
        503,
        _error(
            "The database cannot be used now, too much waits for it, or the service is stopping."
            " Try again: what was filed after all is then a repeat.",
            "database is locked by another program",
            "Retry-After",
        ),
    ),
    "InternalError": (500, _error("A defect of the service.", "internal server error")),
}


def _operation(
    tag: str, name: str, summary: str, success: Json, *failures: str, **more: object
) -> Json:
    responses = {"200": success} if "description" in success else dict(success)
    for failure in (*failures, "InternalError"):
        responses[str(_FAILURES[failure][0])] = {"$ref": f"#/components/responses/{failure}"}
    return {"tags": [tag], "operationId": name, "summary": summary, **more, "responses": responses}


def _receive_message() -> Json:
    return _operation(
        "messages",
        "receiveMessage",
        "Deliver a message",
        _reply(
            "The message is on disk, now or since an earlier delivery.",
            _json(Accepted, {"status": "ok"}),
        ),
        "InvalidSignature",
        "BodyGarbled",
        "BodyIncomplete",
        "BodyTooLarge",
        "InvalidBody",
        "Unavailable",
        description=_DELIVERY,
        security=[{"signature": []}],
        requestBody={
            "required": True,
            "content": {
                "application/json": {
                    "schema": {"$ref": "#/components/schemas/InboundMessage"},
                    "examples": {
                        "text": {"summary": "A text", "value": _MESSAGE},
                        "no_text": {
                            "summary": "No text",
                            "value": {**_MESSAGE, "message_id": "m2", "text": None},
                        },
                    },
                }
            },
        },
    )


def _show_messages() -> Json:
    page = {"data": [_MESSAGE], "total": 1, "limit": 50, "offset": 0}
    content = _json(Page, page) | {
        NDJSON: {
            "schema": {"type": "string", "description": "A `Message` on each line."},
            "example": EXAMPLE_BODY + "\n",
        }
    }
    return _operation(
        "messages",
        "showMessages",
        "List messages, oldest first",
        _reply("A page of the messages that match, or all of them.", content, "Link"),
        "InvalidQuery",
        "Unavailable",
        description=_LISTING,
        parameters=_parameters(MessageQuery),
    )


def _show_stats() -> Json:
    statistics = {
        "total_messages": 1,
        "senders_count": 1,
        "messages_per_sender": [{"from": _MESSAGE["from"], "count": 1}],
        "first_message_ts": _MESSAGE["ts"],
        "last_message_ts": _MESSAGE["ts"],
    }
    return _operation(
        "messages",
        "showStats",
        "Count messages and senders",
        _reply("The statistics of the messages that match.", _json(Statistics, statistics)),
        "InvalidQuery",
        "Unavailable",
        description="Without a parameter, of all messages. An empty parameter counts as absent.",
        parameters=_parameters(StatsQuery),
    )


def _probe(name: str, summary: str, model: type[Reply], status: str) -> Json:
    success = _reply(f"{summary}.", _json(model, {"status": status}))
    failures = [] if model is Alive else ["Unavailable"]
    return _operation("operation", name, summary, success, *failures)


def _show_metrics() -> Json:
    names = {
        "name": "name[]",
        "in": "query",
        "description": "Only these metrics. Example: `http_requests_total`",
        "schema": {"type": "array", "items": {"type": "string"}},
    }
    content = _text("text/plain", "application/openmetrics-text")
    return _operation(
        "operation",
        "showMetrics",
        "Metrics for Prometheus",
        _reply("Prometheus' text format, or OpenMetrics if that is preferred.", content),
        parameters=[names],
    )


def _show_description() -> Json:
    document = {"application/json": {"schema": {"type": "object"}}}
    return _operation(
        "description", "showDescription", "This document", _reply("OpenAPI 3.1.", document)
    )


def _show_docs() -> Json:
    page = _reply("A page to read and try the API.", _text("text/html"))
    return _operation("description", "showDocs", "A page to try the API", page)


def _show_asset() -> Json:
    files = sorted(file.name.removesuffix(".gz") for file in ASSETS.iterdir())
    content = _text("text/css", "text/javascript", "text/plain", "text/markdown")
    return _operation(
        "description",
        "showAsset",
        "A file of that page",
        {
            "200": _reply("The file.", content),
            "206": _reply("The range of it that was asked for.", content),
            "304": _reply("It is still the one of `If-None-Match`.", {}),
            "412": _reply("It is not the one of `If-Match`.", {}),
            "416": _error("It has no such range.", "Requested Range Not Satisfiable"),
        },
        "NotFound",
        parameters=[
            {
                "name": "filename",
                "in": "path",
                "required": True,
                "schema": {"type": "string", "enum": files},
            }
        ],
    )
