"""WhatsApp Cloud API: what Meta delivers to /webhook/meta.

Source: developers.facebook.com, "Webhooks: Getting Started" (handshake, signature, batches), and
WhatsApp Business Platform, "messages webhook reference".
"""

import hmac
from collections.abc import Iterator, Mapping

from webhook_api.intake.signature import sign, verify_signature
from webhook_api.models import parse_json
from webhook_api.providers.delivery import (
    Delivery,
    as_list,
    as_number,
    as_object,
    as_ts,
    not_of_the_provider,
    prefixed,
)

NAME = "meta"
SIGNATURE_HEADER = "X-Hub-Signature-256"
MAX_BODY_BYTES = 3 * 1024 * 1024
MAX_MESSAGES = 1000

# Where the text of a message is, for each kind of message.
_TEXTS = (
    ("text", "body"),
    ("button", "text"),
    ("interactive", "button_reply", "title"),
    ("interactive", "list_reply", "title"),
    ("reaction", "emoji"),
    ("image", "caption"),
    ("video", "caption"),
    ("document", "caption"),
)


def sign_delivery(app_secret: str, body: bytes) -> dict[str, str]:
    """Return the headers that Meta would send with `body`."""
    return {SIGNATURE_HEADER: f"sha256={sign(app_secret, body)}"}


def read_delivery(headers: Mapping[str, str], body: bytes, _url: str, app_secret: str) -> Delivery:
    """Return what `body` holds. The names of `headers` are in lower case.

    Raises:
        InvalidSignature: Meta did not sign it with our app's secret.
        InvalidInput: it is not a delivery of a WhatsApp Business account.
    """
    verify_signature(app_secret, body, headers.get(SIGNATURE_HEADER.lower()))
    payload = as_object(parse_json(body))
    if payload.get("object") != "whatsapp_business_account":
        raise not_of_the_provider("Input should have the object whatsapp_business_account")
    if not isinstance(payload.get("entry"), list):
        raise not_of_the_provider("Input should have a list of entries")
    delivery = Delivery()
    found = 0
    for value in _values(payload):
        receiver = as_number(as_object(value.get("metadata")).get("display_phone_number"))
        for message in as_list(value.get("messages")):
            found += 1
            _add(delivery, message, receiver)
        for status in as_list(value.get("statuses")):
            delivery.add_status(as_object(status).get("status"))
    if found > MAX_MESSAGES:
        raise not_of_the_provider(f"Input should have at most {MAX_MESSAGES} messages")
    return delivery


def answer_handshake(arguments: Mapping[str, str], verify_token: str) -> str | None:
    """Return the challenge of a verification request; None if its token is wrong."""
    supplied = arguments.get("hub.verify_token", "").encode(errors="replace")
    known = hmac.compare_digest(supplied, verify_token.encode(errors="surrogateescape"))
    if known and arguments.get("hub.mode") == "subscribe":
        return arguments.get("hub.challenge")
    return None


def _values(payload: Mapping[str, object]) -> Iterator[Mapping[str, object]]:
    for entry in as_list(payload.get("entry")):
        for change in as_list(as_object(entry).get("changes")):
            yield as_object(as_object(change).get("value"))


def _add(delivery: Delivery, message: object, receiver: object) -> None:
    if not isinstance(message, dict):
        delivery.skipped["not_an_object"] += 1
        return
    delivery.add_message(
        message_id=prefixed(NAME, message.get("id")),
        sender=as_number(message.get("from")),
        receiver=receiver,
        ts=as_ts(message.get("timestamp")),
        text=_text(message),
    )


def _text(message: object) -> str | None:
    """Return the text of a message; None for kinds without one."""
    for path in _TEXTS:
        found = message
        for name in path:
            found = as_object(found).get(name)
        if isinstance(found, str):
            return found
    return _place(as_object(as_object(message).get("location")))


def _place(location: Mapping[str, object]) -> str | None:
    parts = [location.get(name) for name in ("name", "address")]
    said = [part for part in parts if isinstance(part, str) and part]
    where = [location.get(name) for name in ("latitude", "longitude")]
    said += [str(degrees) for degrees in where if _is_degrees(degrees)]
    return ", ".join(said) or None


def _is_degrees(value: object) -> bool:
    return isinstance(value, int | float) and -180 <= value <= 180
