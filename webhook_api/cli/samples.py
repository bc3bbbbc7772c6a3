"""Sample messages, as varied as real ones: several scripts, emoji, no text, odd characters."""

import json
import random
import uuid
from collections.abc import Iterator

from webhook_api.server_time import now_as_text

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
