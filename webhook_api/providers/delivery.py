"""What a provider's delivery holds."""

from collections import Counter
from dataclasses import dataclass, field

from pydantic import ValidationError

from webhook_api.models import MAX_TEXT_CHARS, Origin, ProviderMessage, mended
from webhook_api.providers.texts import as_json, text_of

MAX_MESSAGES = 1000  # of a delivery; with more it is kept as a dead letter
STATUSES = (
    "accepted", "queued", "sending", "sent", "delivered", "undelivered", "read", "played",
    "failed", "deleted", "canceled",
)  # fmt: skip
OTHER = "other"
NO_ID = "without a valid id"
NO_OBJECT = "not an object"
ELSEWHERE = "in an unknown place"
REPEATED = "under a name that is there twice"

_MAX_WORDS = 20  # words of a delivery in its log line
_MAX_KIND_CHARS = 64


class UnreadableError(Exception):
    """A signed delivery that cannot be read at all; its text says why."""


@dataclass
class Delivery:
    """The messages to store, and the counts of all else in the delivery.

    `has_own_time` is False if the `ts` of a message is the time of arrival, which differs in a
    repeat.
    """

    provider: str
    arrived: str  # when, as a `ts`
    messages: list[ProviderMessage] = field(default_factory=list)
    unstorable: Counter[str] = field(default_factory=Counter)  # messages, by the reason
    statuses: Counter[str] = field(default_factory=Counter)  # of STATUSES and OTHER
    events: Counter[str] = field(default_factory=Counter)  # by the provider's word for each
    error_codes: list[str] = field(default_factory=list)  # of the provider
    has_own_time: bool = True

    def add_message(
        self,
        message: object,
        *,
        message_id: object,
        sender: str,
        receiver: str,
        ts: str | None,
        kind: object,
        payload: object,
        sender_name: str = "",
    ) -> None:
        """Add a message, or count it as one that cannot be stored: it has no id.

        With a `sender_name`, the id is one of that sender alone: `standard/shop:1`. Without a `ts`
        it has the time of its arrival. A text that is too long is cut.
        """
        text = text_of(self.provider, message)
        if text and len(text) > MAX_TEXT_CHARS:
            text = text[: MAX_TEXT_CHARS - 1] + "…"
        source = f"{self.provider}/{sender_name}" if sender_name else self.provider
        self.has_own_time &= ts is not None
        has_id = isinstance(message_id, str) and message_id
        fields = {
            "message_id": f"{source}:{message_id}" if has_id else None,
            "from": sender,
            "to": receiver,
            "ts": ts or self.arrived,
            "text": text,
            "kept": Origin(self.provider, word(kind), as_json(payload)),
        }
        try:
            self.messages.append(ProviderMessage.model_validate(fields))
        except ValidationError:
            self.unstorable[NO_ID] += 1

    def add_status(self, kind: object) -> None:
        """Count a status of a message that was sent through the provider."""
        name = kind.lower() if isinstance(kind, str) else OTHER
        self.statuses[name if name in STATUSES else OTHER] += 1

    def add_event(self, name: object) -> None:
        """Count what is neither a message nor a status."""
        event = word(name) or OTHER
        self.events[event if event in self.events or len(self.events) < _MAX_WORDS else OTHER] += 1

    def add_error(self, code: object) -> None:
        """Note an error code of the provider, or its name for an error."""
        shown = word(str(code)) if isinstance(code, str | int) else None
        if shown and shown not in self.error_codes and len(self.error_codes) < _MAX_WORDS:
            self.error_codes.append(shown)

    @property
    def reason(self) -> str:
        """Why not all of it could be stored; empty if all could."""
        return ", ".join(f"{count} messages {why}" for why, count in self.unstorable.items())


def word(value: object) -> str | None:
    """Return a provider's word for a kind or an event; None if it has none."""
    return mended(value)[:_MAX_KIND_CHARS] if isinstance(value, str) and value else None


def provider_of_id(message_id: str) -> str:
    """Return the name before the colon of an id, which may be that of a provider; else nothing."""
    source, colon, _ = message_id.partition(":")
    return source.partition("/")[0] if colon else ""
