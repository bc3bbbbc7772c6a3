"""The responses in the API's description: headers, contents and failures."""

from typing import Any

from webhook_api.answers import Error, Faults, WrongState
from webhook_api.errors import RETRY_AFTER_S
from webhook_api.web.openapi.text import NEXT_PAGE, POSITION

Json = dict[str, Any]

HEADERS: Json = {
    "X-Request-ID": {
        "description": "The id of the request in the service's log.",
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
        "example": f'<{NEXT_PAGE}>; rel="next"',
    },
    "ETag": {
        "description": "The position of the consumer, for `If-Match`.",
        "required": True,
        "schema": {"type": "string"},
        "example": f'"{POSITION}"',
    },
    "Allow": {
        "description": "The methods that the path has.",
        "required": True,
        "schema": {"type": "string"},
        "example": "POST, OPTIONS",
    },
}


def response(description: str, content: Json, *headers: str) -> Json:
    names = ("X-Request-ID", *headers)
    return {
        "description": description,
        "headers": {name: {"$ref": f"#/components/headers/{name}"} for name in names},
        "content": content,
    }


def json_content(model: type, example: object) -> Json:
    schema = {"$ref": f"#/components/schemas/{model.__name__}"}
    return {"application/json": {"schema": schema, "example": example}}


def text_content(*media_types: str) -> Json:
    return {media_type: {"schema": {"type": "string"}} for media_type in media_types}


def error(description: str, detail: str, *headers: str) -> Json:
    return response(description, json_content(Error, {"detail": detail}), *headers)


def _wrong_state(description: str, detail: str, code: str, **more: str) -> Json:
    example = {"detail": detail, "code": code, **more}
    return response(description, json_content(WrongState, example))


def _faults(type_: str, loc: list[str], msg: str) -> Json:
    return {"detail": [{"type": type_, "loc": loc, "msg": msg}]}


# Failures by name: the status and the response.
FAILURES: dict[str, tuple[int, Json]] = {
    "InvalidSignature": (
        401,
        error(
            "The signature is missing or wrong. Nothing was stored.",
            "invalid signature",
        ),
    ),
    "NotFound": (
        404,
        error("There is no such path.", "The requested URL was not found on the server."),
    ),
    "NoMessage": (
        404,
        error("There is no message with this id.", "there is no message with this id"),
    ),
    "Removed": (410, error("The message was removed.", "the message was removed")),
    "PositionLost": (
        410,
        _wrong_state(
            "`pruned`: retention has removed messages after this position; go on at `start`."
            " `diverged`: the database was turned back to before it; go on at an older position, or"
            " at `start`, and drop what you have by `message_id`.",
            "messages after this position were removed",
            "pruned",
            start=POSITION,
        ),
    ),
    "NoConsumer": (
        404,
        _wrong_state(
            "There is no such consumer.", "there is no consumer with this name", "no_consumer"
        ),
    ),
    "NoSuchName": (
        404,
        response(
            "There is no such consumer, or none can have this name.",
            {
                "application/json": {
                    "schema": {
                        "anyOf": [
                            {"$ref": "#/components/schemas/WrongState"},
                            {"$ref": "#/components/schemas/Error"},
                        ]
                    }
                }
            },
        ),
    ),
    "TooManyConsumers": (
        409,
        _wrong_state("There are 64 already.", "there are 64 consumers already", "full"),
    ),
    "Moved": (
        412,
        _wrong_state(
            "It is at another position than `If-Match` says, or is there already.",
            "the consumer is at another position",
            "moved",
            position=POSITION,
        ),
    ),
    "PreconditionRequired": (
        428,
        error("There is no precondition.", "If-Match or If-None-Match: * is needed"),
    ),
    "Forbidden": (
        403,
        error(
            "The service has no `READ_TOKEN`.",
            "consumers can be changed only where READ_TOKEN is set",
        ),
    ),
    "MethodNotAllowed": (
        405,
        error(
            "The path does not have this method.",
            "The method is not allowed for the requested URL.",
            "Allow",
        ),
    ),
    "BodyGarbled": (
        400,
        error("The body breaks the framing of HTTP.", "request body is not correct HTTP"),
    ),
    "BodyIncomplete": (
        408,
        error("The body did not arrive in time.", "request body is incomplete"),
    ),
    "BodyTooLarge": (
        413,
        error(
            "The body is too long. The limit is 262,144 bytes, or what `MAX_BODY_BYTES` says.",
            "request body is longer than 262144 bytes",
        ),
    ),
    "InvalidBody": (
        422,
        response(
            "The signature is right, but the body is not a valid message. Nothing was stored.",
            json_content(Faults, _faults("missing", ["body", "message_id"], "Field required")),
        ),
    ),
    "InvalidMove": (
        422,
        response(
            "The body is not JSON, or has no position.",
            json_content(Faults, _faults("missing", ["body", "position"], "Field required")),
        ),
    ),
    "InvalidQuery": (
        422,
        response(
            "A parameter breaks its rule.",
            json_content(
                Faults, _faults("int_parsing", ["query", "limit"], "Input should be a whole number")
            ),
        ),
    ),
    "Unavailable": (
        503,
        error(
            "The database cannot be used now, too many requests wait, or the service is stopping."
            " Try again: if the message was stored all the same, that is a repeat.",
            "database: waited too long for the disk",
            "Retry-After",
        ),
    ),
    "InternalError": (500, error("A defect of the service.", "internal server error")),
}
