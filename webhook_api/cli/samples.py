"""Sample messages, as varied as real ones: several scripts, emoji, no text, odd characters.

And for each provider the kinds of messages that it delivers.
"""

import json
import random
import uuid
from collections.abc import Iterator
from typing import Any

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


def whatsapp_kinds(message: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the members of a message of Meta, one object for each kind; the first says all."""
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


def twilio_kinds(message: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the fields of a message of Twilio, one object for each kind; the first says all."""
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


def standard_kinds(message: dict[str, Any]) -> list[dict[str, Any]]:
    """Return bodies of Standard Webhooks, one for each form."""
    envelope = {"type": "message.received", "timestamp": message["ts"]}
    timeless = {name: value for name, value in message.items() if name != "ts"}
    return [{**envelope, "data": message}, {**envelope, "data": timeless}, message]
