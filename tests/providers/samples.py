"""Samples for the tests: the settings of all three providers, and bodies in their formats."""

import json
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from tests.builders import SECRET, a_message
from webhook_api.config import Config
from webhook_api.providers import meta, standard, twilio

APP_SECRET = "app-secret"
VERIFY_TOKEN = "meatyhamhock"
AUTH_TOKEN = "auth-token"
PUBLIC_URL = "https://hooks.example.com"
WHSEC = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
KEY = bytes.fromhex("31f290f6bf06298aab4f08d43c3f082cf648a362da2da4b0")

SETTINGS = {
    "META_APP_SECRET": APP_SECRET,
    "META_VERIFY_TOKEN": VERIFY_TOKEN,
    "TWILIO_AUTH_TOKEN": AUTH_TOKEN,
    "PUBLIC_URL": PUBLIC_URL,
    "STANDARD_WEBHOOKS_SECRET": WHSEC,
}


def a_config(folder: Path, **settings: str) -> Config:
    """Return a configuration from an environment that turns all providers on."""
    environ = {"WEBHOOK_SECRET": SECRET, "DATABASE_URL": f"sqlite:///{folder / 'app.db'}"}
    return Config.from_env({**environ, **SETTINGS, **settings})


def from_meta(*messages: object, **value: Any) -> bytes:
    """Return a body with these messages; keywords are further members of `value`."""
    value = {
        "messaging_product": "whatsapp",
        "metadata": {"display_phone_number": "15550783881", "phone_number_id": "106540352242922"},
        **({"messages": messages} if messages else {}),
        **value,
    }
    entry = {"id": "102290129340398", "changes": [{"value": value, "field": "messages"}]}
    return json.dumps({"object": "whatsapp_business_account", "entry": [entry]}).encode()


def a_whatsapp(number: int = 0, **members: Any) -> dict[str, Any]:
    """Return a member of `messages`, a text unless `members` say otherwise; `sender` is `from`."""
    if "sender" in members:
        members["from"] = members.pop("sender")
    return {
        "from": f"1650555{1234 + number % 1000:04}",
        "id": f"wamid.{number:04}",
        "timestamp": str(1749416383 + number),
        "type": "text",
        "text": {"body": f"Does it come in another color? {number}"},
        **members,
    }


def some_whatsapps(count: int, start: int = 0) -> list[dict[str, Any]]:
    """Return `count` of them with different ids."""
    return [a_whatsapp(number) for number in range(start, start + count)]


def from_twilio(**fields: str) -> bytes:
    """Return a form in Twilio's format."""
    return urlencode(
        {
            "MessageSid": "SM1f0e8ae6ade43cb3c0ce4525424e404f",
            "From": "whatsapp:+14155551234",
            "To": "whatsapp:+14155238886",
            "Body": "Hello",
            "NumMedia": "0",
            **fields,
        }
    ).encode()


def from_standard(**fields: Any) -> bytes:
    """Return an event that holds the specification's message."""
    return json.dumps({"type": "message.received", "data": a_message(**fields)}).encode()


def signed_as(
    provider: str, body: bytes, *, now: float, webhook_id: str = "msg_1"
) -> dict[str, str]:
    """Return the headers that make `body` a delivery of `provider`."""
    if provider == meta.NAME:
        return meta.sign_delivery(APP_SECRET, body)
    if provider == twilio.NAME:
        return twilio.sign_delivery(AUTH_TOKEN, f"{PUBLIC_URL}/webhook/twilio", body)
    return standard.sign_delivery(KEY, webhook_id, int(now), body)
