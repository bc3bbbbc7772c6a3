"""Valid data for the tests: a test gives only the values that matter to it.

What delivers to a container imports this with no other packages than Python's own.
"""

import hmac
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flask import Flask

    from webhook_api.config import Config

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


def an_app(config: "Config") -> "Flask":
    """Return the application on a database that was created, as the start of Gunicorn does."""
    from webhook_api import create_app
    from webhook_api.store.database import Database

    Database(config.database_path).prepare(create=True)
    return create_app(config)


def encode(payload: object) -> bytes:
    """Return `payload` as the bytes of a body."""
    return json.dumps(payload).encode()


def signed(body: bytes, secret: str = SECRET) -> dict[str, str]:
    """Return the headers of a delivery of `body`, with the right signature.

    It is made without the service's own code, as a sender makes it.
    """
    return {"X-Signature": hmac.digest(secret.encode(), body, "sha256").hex()}


def some_messages(count: int, **fields: Any) -> list[dict[str, Any]]:
    """Return `count` payloads named m0000, m0001, ..., each a second after the one before."""
    return [
        a_message(
            message_id=f"m{n:04}", ts=f"2025-01-15T{n // 3600:02}:{n // 60 % 60:02}:{n % 60:02}Z"
        )
        | fields
        for n in range(count)
    ]


def samples(exposition: str) -> dict[str, float]:
    """Return the value of each series in a /metrics reply, by its name and labels as written."""
    lines = (line for line in exposition.splitlines() if not line.startswith("#"))
    return {series: float(value) for series, value in (line.rsplit(" ", 1) for line in lines)}
