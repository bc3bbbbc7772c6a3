"""What a provider's delivery holds, and the small steps that reading it takes."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from pydantic import ValidationError

from webhook_api.errors import InvalidInput
from webhook_api.models import MAX_TEXT_CHARS, InboundMessage

# A message is skipped for its first field that breaks its rule, or for being no object.
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
    """The messages to store, and how much else there was, by closed sets of names.

    `has_own_time` is False if `ts` is ours, so that a repeat of a message differs from it.
    """

    messages: list[InboundMessage] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)  # of REASONS
    statuses: Counter[str] = field(default_factory=Counter)  # of STATUSES and OTHER_STATUS
    has_own_time: bool = True

    def add_message(
        self, *, message_id: object, sender: object, receiver: object, ts: object, text: object
    ) -> None:
        """Add a message, or count it as skipped if it breaks a rule of ours (spec 1).

        The provider cannot mend it, and would deliver it again and again, with all that came
        together with it. A text that is too long is cut instead.
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
        """Count what the provider says about a message that we sent."""
        name = kind if isinstance(kind, str) and kind in STATUSES else OTHER_STATUS
        self.statuses[name] += 1


def prefixed(provider: str, message_id: object) -> object:
    """Return the id under which a provider's message is stored; what is no id stays as it is."""
    return f"{provider}:{message_id}" if isinstance(message_id, str) and message_id else message_id


def as_number(value: object) -> object:
    """Return `+1 (555) 078-3881` or `15550783881` as `+15550783881`; no number stays none."""
    return "+" + _NUMBER_FORMATTING.sub("", value) if isinstance(value, str) else value


def as_ts(value: object) -> object:
    """Return a Unix time, in seconds, as `ts` wants it; what is none stays as it is."""
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
    """Return the refusal of a signed body that is not what the provider sends."""
    return InvalidInput([{"type": "provider", "loc": ["body"], "msg": msg}])
