"""The providers' routes in the API's description, made from that of POST /webhook."""

from collections.abc import Collection
from typing import Any

from webhook_api.providers import meta, standard, twilio
from webhook_api.providers.delivery import MAX_MESSAGES

Json = dict[str, Any]

_COMMON = (
    "All of a delivery is stored together, or nothing. Whatever is signed is answered 200: repeats,"
    " deliveries without a message to store, and those that cannot be read, which are kept for the"
    " operator."
)
_META = (
    f"The format of WhatsApp Cloud API. Messages are stored as `{meta.NAME}:` and their id;"
    f" statuses and other fields are counted. At most {meta.MAX_BODY_BYTES:,} bytes; a delivery of"
    f" more than {MAX_MESSAGES:,} messages is kept for the operator. {_COMMON}"
)
_TWILIO = (
    f"The format of Twilio Messaging. A message is stored as `{twilio.NAME}:` and its MessageSid,"
    f" with the time of its arrival as `ts`. {_COMMON}"
)
_STANDARD = (
    "The message is `data` of the body, or the body itself. It is stored as"
    f" `{standard.NAME}:` and its `message_id`, or the `webhook-id` if it has none. {_COMMON}"
)
_SCHEMES: dict[str, dict[str, str]] = {
    meta.NAME: {meta.SIGNATURE_HEADER: "`sha256=` and the hex HMAC-SHA256 of the body's bytes."},
    twilio.NAME: {
        twilio.SIGNATURE_HEADER: "The base64 HMAC-SHA1 of the public URL and the sorted fields."
    },
    standard.NAME: {
        "webhook-id": "The id of the delivery; its repeats have the same. Or Svix' own names.",
        "webhook-timestamp": "When it was sent, in Unix seconds: within 5 minutes of now.",
        "webhook-signature": "`v1,` and the base64 HMAC-SHA256 of id, timestamp and body.",
    },
}


def describe_providers(document: Json, names: Collection[str]) -> Json:
    """Return `document`, the API's description, with the routes of these providers added."""
    if not names:
        return document
    receive = document["paths"]["/webhook"]["post"]
    components = document["components"]
    schemes = {
        _scheme(header): {"type": "apiKey", "in": "header", "name": header, "description": about}
        for name in names
        for header, about in _SCHEMES[name].items()
    }
    operations = {
        f"/webhook/{name}": _operations(name, receive, components["responses"]["BodyTooLarge"])
        for name in names
    }
    return {
        **document,
        "paths": {**document["paths"], **operations},
        "components": {
            **components,
            "securitySchemes": {**components["securitySchemes"], **schemes},
        },
    }


def _operations(name: str, receive: Json, refusal: Json) -> Json:
    """Return the operations of one provider's path; its POST is `receive` with a few changes."""
    about, content = _BODIES[name]
    post = {
        **receive,
        "operationId": f"receiveFrom{name.capitalize()}",
        "summary": f"Deliver in the format of {name}",
        "description": about,
        "security": [{_scheme(header): [] for header in _SCHEMES[name]}],
        "requestBody": {"required": True, "content": content},
        "responses": {
            status: response
            for status, response in receive["responses"].items()
            if status != "422"  # what is signed and not valid is kept
        },
    }
    if name == twilio.NAME:
        response = receive["responses"]["200"]
        post["responses"]["200"] = {**response, "content": _plain("text/xml", twilio.EMPTY_TWIML)}
    if name != meta.NAME:
        return {"post": post}
    internal_error = receive["responses"]["500"]
    return {"post": post, "get": _handshake(refusal, internal_error)}


def _handshake(refusal: Json, internal_error: Json) -> Json:
    return {
        "tags": ["messages"],
        "operationId": "answerMetasHandshake",
        "summary": "Answer the verification request of Meta",
        "description": "Meta sends it once, when the callback URL is entered in its dashboard.",
        "parameters": [
            {"name": f"hub.{part}", "in": "query", "required": True, "schema": {"type": "string"}}
            for part in ("mode", "verify_token", "challenge")
        ],
        "responses": {
            "200": {
                "description": "The challenge.",
                "headers": refusal["headers"],
                "content": _plain("text/plain", "1158201444"),
            },
            "403": {
                **refusal,
                "description": "The verify token is wrong.",
                "content": {
                    "application/json": {
                        "schema": {"$ref": "#/components/schemas/Error"},
                        "example": {"detail": "the verify token is wrong"},
                    }
                },
            },
            "500": internal_error,
        },
    }


def _scheme(header: str) -> str:
    return header.lower().replace("-", "_")


def _plain(media_type: str, example: str) -> Json:
    return {media_type: {"schema": {"type": "string"}, "example": example}}


def _object(example: object) -> Json:
    return {"schema": {"type": "object"}, "example": example}


_BODIES: dict[str, tuple[str, Json]] = {
    meta.NAME: (
        _META,
        {"application/json": _object({"object": "whatsapp_business_account", "entry": []})},
    ),
    twilio.NAME: (
        _TWILIO,
        {
            "application/x-www-form-urlencoded": _object(
                {"MessageSid": "SM1", "From": "+14158675309", "To": "+18005551212", "Body": "Hi"}
            )
        },
    ),
    standard.NAME: (
        _STANDARD,
        {
            "application/json": {
                "schema": {
                    "anyOf": [
                        {
                            "type": "object",
                            "required": ["data"],
                            "properties": {"data": {"$ref": "#/components/schemas/InboundMessage"}},
                        },
                        {"$ref": "#/components/schemas/InboundMessage"},
                    ]
                }
            }
        },
    ),
}
