"""Sample messages, and deliveries in the format and with the signature of each provider.

The samples are as varied as real messages: several scripts, emoji, no text, odd characters; and
for each provider the kinds of messages that it delivers.
"""

import json
import random
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from webhook_api.config import Config, ConfigError
from webhook_api.intake.signature import SIGNATURE_HEADER, sign
from webhook_api.providers import meta, standard, twilio
from webhook_api.timestamps import now_as_text

_RECEIVERS = ("+14155550100", "+14155550101", "+442071838750")
_SENDERS = tuple(f"+9198765{number:05d}" for number in range(200))
_TEXTS = (
    "Hello",
    "Hi, is my order {} on its way?",
    "Invoice {} is paid, please confirm.",
    "Thanks! 👍",
    "Can we move the meeting to {}:30?",
    "¿Está lista mi factura {}?",
    "Привет! Где мой заказ {}?",
    "مرحبا، أين طلبي {}؟",
    "नमस्ते, ऑर्डर {} कब आएगा?",
    "注文番号{}はいつ届きますか。",
    "À L'ÉCOLE, salle {} 🏫",
    'He said "100%_sure" \\ {} \t\n(second line)',
    None,
)


SignedDelivery = tuple[dict[str, str], bytes]  # headers and body
Format = Callable[[bytes], SignedDelivery]

OF_THE_SPECIFICATION = "specification"


def format_of(provider: str, config: Config) -> Format:
    """Return what turns a body of POST /webhook into a delivery of `provider`, if it is set up."""
    if provider == OF_THE_SPECIFICATION:
        return lambda body: _as_specified(config, body)
    make, setting, value = {
        meta.NAME: (_as_meta, "META_APP_SECRET", config.meta_app_secrets),
        twilio.NAME: (_as_twilio, "TWILIO_AUTH_TOKEN", config.twilio_auth_tokens),
        standard.NAME: (
            _as_standard, "STANDARD_WEBHOOKS_SECRET", config.standard_webhooks_keys,
        ),
    }[provider]  # fmt: skip
    if not value:
        raise ConfigError(f"{setting} is not set")
    return lambda body: make(config, json.loads(body))


def _draw(
    message: dict[str, Any], kinds: Callable[[dict[str, Any]], list[dict[str, Any]]]
) -> dict[str, Any]:
    """Return one of the kinds of a provider for a sample, the first for any other message."""
    of_sample = message["message_id"].startswith("sample-")
    made = kinds(message)
    return random.choice(made) if of_sample else made[0]  # noqa: S311 - for nothing secret


def _as_specified(config: Config, body: bytes) -> SignedDelivery:
    signature = sign(config.webhook_secret, body)
    return {"Content-Type": "application/json", SIGNATURE_HEADER: signature}, body


def _as_meta(config: Config, message: dict[str, Any]) -> SignedDelivery:
    sent = {
        "from": message["from"].removeprefix("+"),
        "id": message["message_id"].replace("sample-", "wamid.sample-"),
        "timestamp": str(int(datetime.fromisoformat(message["ts"]).timestamp())),
    }
    sent |= _draw(message, _whatsapp_kinds)
    value = {
        "messaging_product": "whatsapp",
        "metadata": {"display_phone_number": message["to"].removeprefix("+")},
        "messages": [sent],
    }
    entry = {"id": "102290129340398", "changes": [{"field": "messages", "value": value}]}
    body = json.dumps({"object": "whatsapp_business_account", "entry": [entry]}).encode()
    return meta.sign_delivery(config.meta_app_secrets[0], body), body


def _as_twilio(config: Config, message: dict[str, Any]) -> SignedDelivery:
    fields = {
        "MessageSid": message["message_id"].replace("sample-", "SM").replace("-", ""),
        "From": f"whatsapp:{message['from']}",
        "To": f"whatsapp:{message['to']}",
        "SmsStatus": "received",
        "Body": "",
        "NumMedia": "0",
    }
    fields |= _draw(message, _twilio_kinds)
    body = urlencode(fields).encode()
    url = f"{config.public_url}/webhook/{twilio.NAME}"
    return twilio.sign_delivery(config.twilio_auth_tokens[0], url, body), body


def _as_standard(config: Config, message: dict[str, Any]) -> SignedDelivery:
    body = json.dumps(_draw(message, _standard_kinds)).encode()
    webhook_id = message["message_id"].replace("sample-", "msg_")
    key = config.standard_webhooks_keys[0].key
    headers = standard.sign_delivery(key, webhook_id, int(time.time()), body)
    return {"Content-Type": "application/json", **headers}, body


def sample_bodies(count: int) -> Iterator[bytes]:
    """Yield `count` bodies for POST /webhook, each with a `message_id` that no other has."""
    choose = random.Random()  # noqa: S311 - for nothing secret
    for _ in range(count):
        text = choose.choice(_TEXTS)
        message = {
            "message_id": f"sample-{uuid.uuid4()}",
            # A few senders write most of the messages.
            "from": _SENDERS[int(len(_SENDERS) * choose.random() ** 3)],
            "to": choose.choice(_RECEIVERS),
            "ts": now_as_text(),
            "text": text and text.format(choose.randint(1, 9999)),
        }
        yield json.dumps(message, ensure_ascii=False).encode()


def _whatsapp_kinds(message: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the members of a message of Meta, one object for each kind; the first fits any."""
    text = message.get("text")
    file = {"id": "65463453", "mime_type": "application/pdf"}
    if text is None:
        return [
            {"type": "sticker", "sticker": {"id": "1", "mime_type": "image/webp"}},
            {"type": "image", "image": {"id": "9", "mime_type": "image/jpeg"}},
            {"type": "document", "document": {**file, "filename": "invoice.pdf"}},
            {"type": "reaction", "reaction": {"message_id": "wamid.X", "emoji": "👍"}},
            {"type": "location", "location": {"latitude": 37.44, "longitude": -122.16}},
        ]
    said = {"type": "text", "text": {"body": text}}
    reply = {"id": "1", "title": text}
    answers = json.dumps({"question": text, "zip": "12345"})
    return [
        said,
        {**said, "context": {"from": "15550783881", "id": "wamid.X"}},
        {**said, "from": None, "from_user_id": "US.13491208655302741918"},
        {"type": "document", "document": {**file, "caption": text}},
        {"type": "edit", "edit": {"original_message_id": "wamid.X", "message": said}},
        {"type": "interactive", "interactive": {"type": "list_reply", "list_reply": reply}},
        {"type": "interactive", "interactive": {"nfm_reply": {"response_json": answers}}},
        {"type": "order", "order": {"text": text, "product_items": [{"quantity": 2}]}},
        {"type": "contacts", "contacts": [{"name": {"formatted_name": text}}]},
    ]


def _twilio_kinds(message: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the fields of a message of Twilio, one object for each kind; the first fits any."""
    text = message.get("text") or ""
    place = {"Latitude": "37.44", "Longitude": "-122.16", "Label": "Office"}
    media = {"MediaUrl0": "https://api.twilio.com/x", "MediaContentType0": "image/jpeg"}
    return [
        {"Body": text},
        {"Body": text, "From": "68849", "To": message["to"]},
        {"Body": text, "From": "SUPPORT", "To": message["to"]},
        {"Body": text, "From": f"rcs:{message['from']}", "To": "rcs:sample_agent"},
        {"MessageType": "button", "ButtonText": text, "ButtonPayload": "1"},
        {"MessageType": "location", **place},
        {"From": message["from"], "To": message["to"], "NumMedia": "1", **media},
    ]


def _standard_kinds(message: dict[str, Any]) -> list[dict[str, Any]]:
    """Return bodies of Standard Webhooks, one for each form."""
    envelope = {"type": "message.received", "timestamp": message["ts"]}
    timeless = {name: value for name, value in message.items() if name != "ts"}
    return [{**envelope, "data": message}, {**envelope, "data": timeless}, message]
