"""Standard Webhooks: what providers that follow this standard deliver to /webhook/standard.

The `standardwebhooks` package (1.1.0) is not used: for a signature without a comma, or a body
that is not UTF-8, it raises ValueError instead of refusing it; and it knows only one secret.
Source: github.com/standard-webhooks, spec 1.0.0.
"""

import base64
import hmac
import re
import time
from collections.abc import Callable, Mapping, Sequence

from webhook_api.config import NamedKey
from webhook_api.errors import InvalidSignature
from webhook_api.models import parse_json
from webhook_api.outcome import SignedBy
from webhook_api.providers.delivery import (
    NO_OBJECT,
    STATUSES,
    Delivery,
    UnreadableError,
    address,
    as_ts,
)
from webhook_api.providers.texts import contains, parsed

NAME = "standard"
TOLERANCE_S = 5 * 60
SENDER = "webhook-sender"  # a header of ours: the name of the key that signed the delivery
EVENTS = ("webhook.test", "endpoint.test", "ping")  # what is known of the many types

_PREFIXES = ("webhook", "svix")  # of the headers; Svix sends its own names by default
_OF_A_MESSAGE = ("message_id", "from", "to", "text")
# Types such as `inbound.message`, `sms.received` or `messageCreated`.
_WORD = re.compile("[A-Z]?[a-z]+|[A-Z]+")
_SUBJECTS = {"message", "messages", "sms", "mms", "rcs", "chat", "text", "whatsapp"}
# What becomes of a message that was sent, and tests.
_NOT_INBOUND = {*STATUSES, "delivery", "status", "test", "updated"}
_TIMESTAMP = re.compile("[0-9]{1,12}")


def sign_delivery(key: bytes, webhook_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """Return the headers of a delivery of `body`."""
    return {
        "webhook-id": webhook_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": _signature(key, webhook_id, str(timestamp), body),
    }


def verify(
    keys: Sequence[NamedKey],
    headers: Mapping[str, str],
    body: bytes,
    _url: str,
    clock: Callable[[], float] = time.time,
) -> tuple[SignedBy, str]:
    """Return which of `keys` `body` is signed with, and the name of this key.

    The first key of a name is the current one. The names of `headers` are in lower case.

    Raises:
        InvalidSignature: with none, or not within five minutes of now.
    """
    prefix = _prefix(headers)
    webhook_id = headers.get(f"{prefix}-id", "")
    timestamp = headers.get(f"{prefix}-timestamp", "")
    supplied = headers.get(f"{prefix}-signature", "").encode(errors="replace").split(b" ")
    found = []
    for one in keys:
        expected = _signature(one.key, webhook_id, timestamp, body).encode()
        # Signatures of other versions never match.
        if sum(hmac.compare_digest(expected, signature) for signature in supplied):
            found.append(one)
    is_recent = _TIMESTAMP.fullmatch(timestamp) and abs(clock() - int(timestamp)) <= TOLERANCE_S
    if not (found and webhook_id and is_recent):
        raise InvalidSignature
    used = found[0]
    current = next(key for key in keys if key.name == used.name)
    return (SignedBy.CURRENT if used == current else SignedBy.PREVIOUS), used.name


def parse(
    headers: Mapping[str, str], body: bytes, arrived: str, _max_messages: int | None = None
) -> Delivery:
    """Return the one message of `body`, which is its `data`, or the body itself.

    A message without an id gets the id of its delivery, which its repeats share. The id belongs to
    the sender that the key names. What has no field of a message anywhere is an event, such as the
    one that tests an endpoint, unless its type says that it is a message.

    Raises:
        InvalidInput, UnreadableError: it is no JSON object, or has a message in another format.
    """
    payload = parse_json(body)
    if not isinstance(payload, dict):
        raise UnreadableError(NO_OBJECT)
    delivery = Delivery(NAME, arrived)
    data = parsed(payload.get("data"))
    message = data if isinstance(data, dict) else payload
    event = payload.get("type") or payload.get("event_type") or payload.get("event")
    given = [name for name in _OF_A_MESSAGE if name in message]
    is_status = given == ["message_id"] and bool(_words(event) & _NOT_INBOUND)
    if not given and (_is_inbound(event) or contains([payload, data], _OF_A_MESSAGE)):
        raise UnreadableError("a message in another format")
    if is_status or not given:
        delivery.add_event(event)
        return delivery
    times = (message.get("ts"), message.get("timestamp"), payload.get("timestamp"))
    delivery.add_message(
        message,
        sender_name=headers.get(SENDER, ""),
        message_id=message.get("message_id") or headers.get(f"{_prefix(headers)}-id"),
        sender=address([message.get("from")]),
        receiver=address([message.get("to")]),
        ts=next(filter(None, map(as_ts, times)), None),
        kind=event,
        payload=payload,
    )
    return delivery


def _prefix(headers: Mapping[str, str]) -> str:
    return next((one for one in _PREFIXES if f"{one}-id" in headers), _PREFIXES[0])


def _words(event: object) -> set[str]:
    return {word.lower() for word in _WORD.findall(event)} if isinstance(event, str) else set()


def _is_inbound(event: object) -> bool:
    return bool(_words(event) & _SUBJECTS) and not _words(event) & _NOT_INBOUND


def _signature(key: bytes, webhook_id: str, timestamp: str, body: bytes) -> str:
    signed = b".".join([*(part.encode(errors="replace") for part in (webhook_id, timestamp)), body])
    return "v1," + base64.b64encode(hmac.digest(key, signed, "sha256")).decode()
