"""The operations of the description: a function for each route."""

from typing import Any

from webhook_api.answers import (
    Accepted,
    Alive,
    ConsumerList,
    ConsumerState,
    Page,
    Statistics,
    WholeMessage,
)
from webhook_api.models import NAME_PATTERN, FeedQuery, MessageQuery, StatsQuery
from webhook_api.reading.listing import NDJSON
from webhook_api.web.assets import ASSETS
from webhook_api.web.openapi.responses import FAILURES, error, json_content, response, text_content
from webhook_api.web.openapi.schemas import parameters
from webhook_api.web.openapi.text import DELIVERY, EXAMPLE_BODY, FEED, LISTING, MESSAGE, POSITION

Json = dict[str, Any]


def operation(
    tag: str, name: str, summary: str, success: Json, *failures: str, **more: object
) -> Json:
    responses = {"200": success} if "description" in success else dict(success)
    for failure in (*failures, "InternalError"):
        responses[str(FAILURES[failure][0])] = {"$ref": f"#/components/responses/{failure}"}
    return {"tags": [tag], "operationId": name, "summary": summary, **more, "responses": responses}


def receive_message() -> Json:
    return operation(
        "messages",
        "receiveMessage",
        "Deliver a message",
        response(
            "The message is on disk, now or since an earlier delivery.",
            json_content(Accepted, {"status": "ok"}),
        ),
        "InvalidSignature",
        "BodyGarbled",
        "BodyIncomplete",
        "BodyTooLarge",
        "InvalidBody",
        "Unavailable",
        description=DELIVERY,
        security=[{"signature": []}],
        requestBody={
            "required": True,
            "content": {
                "application/json": {
                    "schema": {"$ref": "#/components/schemas/InboundMessage"},
                    "examples": {
                        "text": {"summary": "A text", "value": MESSAGE},
                        "no_text": {
                            "summary": "No text",
                            "value": {**MESSAGE, "message_id": "m2", "text": None},
                        },
                    },
                }
            },
        },
    )


def show_messages() -> Json:
    page = {"data": [MESSAGE], "total": 1, "limit": 50, "offset": 0}
    content = json_content(Page, page) | {
        NDJSON: {
            "schema": {"type": "string", "description": "A `Message` on each line."},
            "example": EXAMPLE_BODY + "\n",
        }
    }
    content["application/json"]["schema"] = {
        "anyOf": [{"$ref": f"#/components/schemas/{name}"} for name in ("Page", "FeedPage")]
    }
    listed = parameters(MessageQuery)
    names = {parameter["name"] for parameter in listed}
    listed += [one for one in parameters(FeedQuery) if one["name"] not in names]
    return operation(
        "messages",
        "showMessages",
        "List messages, oldest first, or in the order of their arrival",
        response("A page of the messages that match, or all of them.", content, "Link"),
        "InvalidQuery",
        "NoConsumer",
        "PositionLost",
        "Unavailable",
        description=LISTING + FEED,
        parameters=listed,
    )


_CONSUMER = {
    "name": "billing",
    "position": POSITION,
    "behind": 3,
    "oldest_unread_seconds": 1.5,
    "missed": 0,
    "updated_at": "2025-01-15T10:00:01.042Z",
}
_NAME = {
    "name": "name",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "pattern": NAME_PATTERN},
}


def show_consumers() -> Json:
    return operation(
        "consumers",
        "showConsumers",
        "All named consumers",
        response("By name.", json_content(ConsumerList, {"data": [_CONSUMER]})),
        "Unavailable",
    )


def show_consumer() -> Json:
    return operation(
        "consumers",
        "showConsumer",
        "A named consumer, and how far it is behind",
        response("The consumer.", json_content(ConsumerState, _CONSUMER), "ETag"),
        "NoConsumer",
        "Unavailable",
        parameters=[_NAME],
    )


def put_consumer() -> Json:
    content = json_content(ConsumerState, _CONSUMER)
    headers = {
        "If-None-Match": "`*` creates the consumer.",
        "If-Match": "The `ETag` that it has now: it is moved from there. `*` moves it anyway.",
    }
    return operation(
        "consumers",
        "putConsumer",
        "Create a consumer, or keep its position",
        {
            "200": response("It is at this position, on disk.", content, "ETag"),
            "201": response("It was created, on disk.", content, "ETag"),
        },
        "Forbidden",
        "NoSuchName",
        "TooManyConsumers",
        "PositionLost",
        "Moved",
        "InvalidMove",
        "PreconditionRequired",
        "Unavailable",
        parameters=[
            _NAME,
            *(
                {"name": name, "in": "header", "description": about, "schema": {"type": "string"}}
                for name, about in headers.items()
            ),
        ],
        requestBody={
            "required": True,
            "content": {
                "application/json": {"schema": {"$ref": "#/components/schemas/ConsumerMove"}}
            },
        },
    )


def delete_consumer() -> Json:
    return operation(
        "consumers",
        "deleteConsumer",
        "Remove a consumer",
        {"204": response("It is removed, on disk.", {})},
        "Forbidden",
        "NoConsumer",
        "Unavailable",
        parameters=[_NAME],
    )


def show_message() -> Json:
    whole = {
        **MESSAGE,
        "message_id": "meta:wamid.1",
        "received_at": "2025-01-15T10:00:01.042Z",
        "provider": "meta",
        "kind": "image",
        "payload": {"type": "image", "image": {"id": "65463453", "mime_type": "image/jpeg"}},
    }
    return operation(
        "messages",
        "showMessage",
        "One message, with all that is kept of it",
        response("The message.", json_content(WholeMessage, whole)),
        "NoMessage",
        "Removed",
        "Unavailable",
        parameters=[
            {
                "name": "message_id",
                "in": "path",
                "required": True,
                "description": "Percent-encoded, whatever characters it has.",
                "schema": {"type": "string", "minLength": 1},
            }
        ],
    )


def show_stats() -> Json:
    statistics = {
        "total_messages": 1,
        "senders_count": 1,
        "messages_per_sender": [{"from": MESSAGE["from"], "count": 1}],
        "first_message_ts": MESSAGE["ts"],
        "last_message_ts": MESSAGE["ts"],
    }
    return operation(
        "messages",
        "showStats",
        "Count messages and senders",
        response(
            "The statistics of the messages that match.", json_content(Statistics, statistics)
        ),
        "InvalidQuery",
        "Unavailable",
        description="Without parameters: of all messages. An empty parameter counts as absent.",
        parameters=parameters(StatsQuery),
    )


def probe(name: str, summary: str, model: type, status: str) -> Json:
    success = response(f"{summary}.", json_content(model, {"status": status}))
    failures = [] if model is Alive else ["Unavailable"]
    return operation("operation", name, summary, success, *failures)


def show_metrics() -> Json:
    names = {
        "name": "name[]",
        "in": "query",
        "description": "Only these metrics. Example: `http_requests_total`",
        "schema": {"type": "array", "items": {"type": "string"}},
    }
    content = text_content("text/plain", "application/openmetrics-text")
    return operation(
        "operation",
        "showMetrics",
        "Metrics for Prometheus",
        response("Prometheus' text format, or OpenMetrics if that is preferred.", content),
        parameters=[names],
    )


def show_description() -> Json:
    document = {"application/json": {"schema": {"type": "object"}}}
    return operation(
        "description", "showDescription", "This document", response("OpenAPI 3.1.", document)
    )


def show_docs() -> Json:
    page = response("A page to read and try the API.", text_content("text/html"))
    return operation("description", "showDocs", "A page to try the API", page)


def show_asset() -> Json:
    files = sorted(file.name.removesuffix(".gz") for file in ASSETS.iterdir())
    content = text_content(
        "text/css", "text/javascript", "text/plain", "text/markdown", "image/svg+xml"
    )
    return operation(
        "description",
        "showAsset",
        "A file of that page",
        {
            "200": response("The file.", content),
            "206": response("The requested range of the file.", content),
            "304": response("The file is still the one that `If-None-Match` names.", {}),
            "412": response("The file is not the one that `If-Match` names.", {}),
            "416": error("The file has no such range.", "Requested Range Not Satisfiable"),
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
