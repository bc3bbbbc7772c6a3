"""What a provider's delivery holds, and small functions for reading it."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from pydantic import ValidationError

from webhook_api.errors import InvalidInput
from webhook_api.models import MAX_TEXT_CHARS, InboundMessage

# Why a message is skipped: its first field that breaks a rule, or it is not a JSON object.
REASONS = ("message_id", "from", "to", "ts", "text", "not_an_object")
STATUSES = (
    "accepted", "queued", "sending", "sent", "delivered", "undelivered", "read", "played",
    "failed", "deleted", "canceled",
)  # fmt: skip
OTHER_STATUS = "other"

_NUMBER_FORMATTING = re.compile(r"[\s().+-]")
_UNIX_TIME = re.compile("[0-9]{1,12}")
_YEAR_10000 = 253_402_300_800


@dataclass
class Delivery:
    """The messages to store, and the counts of all else in the delivery.

    `has_own_time` is False if `ts` is the time of arrival, which differs in a repeat.
    """

    messages: list[InboundMessage] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)  # of REASONS
    statuses: Counter[str] = field(default_factory=Counter)  # of STATUSES and OTHER_STATUS
    has_own_time: bool = True

    def add_message(
        self, *, message_id: object, sender: object, receiver: object, ts: object, text: object
    ) -> None:
        """Add a message, or count it as skipped if it breaks a rule of ours (spec 1).

        If it were refused, the provider, which cannot correct it, would repeat the whole delivery
        again and again. A text that is too long is cut.
        """
        if isinstance(text, str) and len(text) > MAX_TEXT_CHARS:
            text = text[: MAX_TEXT_CHARS - 1] + "…"
        fields = {
            "message_id": message_id, "from": sender, "to": receiver, "ts": ts, "text": text,
        }  # fmt: skip
        try:
            self.messages.append(InboundMessage.model_validate(fields))
        except ValidationError as error:
            self.skipped[str(error.errors()[0]["loc"][0])] += 1

    def add_status(self, kind: object) -> None:
        """Count a status of a message that was sent through the provider."""
        name = kind if isinstance(kind, str) and kind in STATUSES else OTHER_STATUS
        self.statuses[name] += 1


def prefixed(provider: str, message_id: object) -> object:
    """Return the id under which a provider's message is stored; other values stay unchanged."""
    return f"{provider}:{message_id}" if isinstance(message_id, str) and message_id else message_id


def as_number(value: object) -> object:
    """Return `+1 (555) 078-3881` or `15550783881` as `+15550783881`; the model checks it."""
    return "+" + _NUMBER_FORMATTING.sub("", value) if isinstance(value, str) else value


def as_ts(value: object) -> object:
    """Return a Unix time, in seconds, in the format of `ts`; other values stay unchanged."""
    if isinstance(value, str) and _UNIX_TIME.fullmatch(value):
        value = int(value)
    if not isinstance(value, int) or not 0 <= value < _YEAR_10000:
        return value
    return datetime.fromtimestamp(value, UTC).isoformat().replace("+00:00", "Z")


def as_object(value: object) -> Mapping[str, object]:
    """Return `value` if it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}


def as_list(value: object) -> list[object]:
    """Return `value` if it is a JSON array, else an empty one."""
    return value if isinstance(value, list) else []


def not_of_the_provider(msg: str) -> InvalidInput:
    """Return the error for a signed body that does not have the provider's format."""
    return InvalidInput([{"type": "provider", "loc": ["body"], "msg": msg}])
