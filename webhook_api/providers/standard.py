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

from webhook_api.errors import InvalidSignature
from webhook_api.models import parse_json, parse_message
from webhook_api.providers.delivery import Delivery, not_of_the_provider, prefixed

NAME = "standard"
TOLERANCE_S = 5 * 60
_TIMESTAMP = re.compile("[0-9]{1,12}")


def sign_delivery(key: bytes, webhook_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """Return the headers of a delivery of `body`."""
    return {
        "webhook-id": webhook_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": _signature(key, webhook_id, str(timestamp), body),
    }


def read_delivery(
    headers: Mapping[str, str],
    body: bytes,
    _url: str,
    keys: Sequence[bytes],
    clock: Callable[[], float] = time.time,
) -> Delivery:
    """Return the one message of `body`, which is its `data`, or the body itself.

    The names of `headers` are in lower case. A message without an id gets the id of its delivery,
    which its repeats share. A message that breaks a rule is refused, as on /webhook: the
    provider can correct it.

    Raises:
        InvalidSignature: it is not signed with any of `keys`, or not within five minutes of now.
        InvalidInput: it is not a valid message.
    """
    webhook_id = headers.get("webhook-id", "")
    _verify(keys, webhook_id, body, headers, clock())
    payload = parse_json(body)
    if not isinstance(payload, dict):
        raise not_of_the_provider("Input should be an object")
    message = payload["data"] if isinstance(payload.get("data"), dict) else payload
    message_id = prefixed(NAME, message.get("message_id", webhook_id))
    return Delivery(messages=[parse_message({**message, "message_id": message_id})])


def _verify(
    keys: Sequence[bytes], webhook_id: str, body: bytes, headers: Mapping[str, str], now: float
) -> None:
    timestamp = headers.get("webhook-timestamp", "")
    supplied = headers.get("webhook-signature", "").encode(errors="replace").split(b" ")
    genuine = False
    for key in keys:
        expected = _signature(key, webhook_id, timestamp, body).encode()
        for signature in supplied:
            # Signatures of other versions never match.
            genuine |= hmac.compare_digest(expected, signature)
    if not (genuine and webhook_id and _is_recent(timestamp, now)):
        raise InvalidSignature


def _is_recent(timestamp: str, now: float) -> bool:
    return bool(_TIMESTAMP.fullmatch(timestamp)) and abs(now - int(timestamp)) <= TOLERANCE_S


def _signature(key: bytes, webhook_id: str, timestamp: str, body: bytes) -> str:
    signed = b".".join([*(part.encode(errors="replace") for part in (webhook_id, timestamp)), body])
    return "v1," + base64.b64encode(hmac.digest(key, signed, "sha256")).decode()
