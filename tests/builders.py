"""Valid data for the tests: a test names only what it is about."""

import json
from typing import Any

from webhook_api.security import sign

SECRET = "testsecret"


def a_message(**fields: Any) -> dict[str, Any]:
    """Return a valid payload of POST /webhook; `sender` stands for `from`, a Python keyword."""
    if "sender" in fields:
        fields["from"] = fields.pop("sender")
    return {
        "message_id": "m1",
        "from": "+919876543210",
        "to": "+14155550100",
        "ts": "2025-01-15T10:00:00Z",
        "text": "Hello",
        **fields,
    }


def encode(payload: object) -> bytes:
    """Return `payload` as the bytes of a body."""
    return json.dumps(payload).encode()


def signed(body: bytes, secret: str = SECRET) -> dict[str, str]:
    """Return the headers that make `body` a delivery of our provider."""
    return {"X-Signature": sign(secret, body)}
