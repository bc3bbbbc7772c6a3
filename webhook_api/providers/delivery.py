"""What a provider's delivery holds, and the fields of a message in one form.

An address is a number where the provider gives one, else what it gives. A time is that of `ts`.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from pydantic import ValidationError
from pydantic_core import PydanticCustomError

from webhook_api.models import (
    MAX_ADDRESS_CHARS,
    MAX_TEXT_CHARS,
    Origin,
    ProviderMessage,
    mended,
)
from webhook_api.providers.texts import as_json, text_of
from webhook_api.timestamps import Timestamp

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

UNKNOWN = "unknown"  # the provider gave no address at all

_CHANNEL = re.compile(r"([a-z]+):(.*)", re.IGNORECASE | re.DOTALL)
_FORMATTING = {"Cf", "Pd", "Zs"}  # marks of direction, hyphens of all kinds, spaces (Unicode)
# Of WhatsApp's own ids, which are numbers without a plus. Shorter ones are short codes.
_MIN_DIGITS = 7
_UNIX_TIME = re.compile(r"([0-9]{1,19})(\.[0-9]*)?")
_MILLISECONDS_FROM = 10**11  # in seconds, this is the year 5138
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


def address(numbers: Sequence[object], others: Sequence[object] = (), *, bare: bool = False) -> str:
    """Return the first number among `numbers`, else the first text in both as it was sent.

    With `bare`, digits without a plus are a number too: Meta sends them so. Otherwise they are a
    short code.
    """
    sent = [text for value in (*numbers, *others) if (text := _as_text(value))]
    found = (_as_number(text, bare=bare) for value in numbers if (text := _as_text(value)))
    chosen = next(filter(None, found), sent[0] if sent else UNKNOWN)
    return chosen[:MAX_ADDRESS_CHARS]


def _as_text(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value) if abs(value) < 10**MAX_ADDRESS_CHARS else ""
    text = mended(value).strip() if isinstance(value, str) else ""
    channel = _CHANNEL.fullmatch(text)
    return "" if channel and not channel[2] else text


def _as_number(text: str, *, bare: bool) -> str | None:
    """Return `+1 (555) 078-3881` or `whatsapp:+15550783881` as `+15550783881`."""
    if match := _CHANNEL.fullmatch(text):
        channel, text = match.groups()
        bare = channel.lower() == "whatsapp" and len(text) >= _MIN_DIGITS
    plain = "".join(
        character
        for character in text
        if unicodedata.category(character) not in _FORMATTING and character not in "()."
    )
    if re.fullmatch(r"\+[0-9]+", plain):
        return plain
    return f"+{plain}" if bare and re.fullmatch("[0-9]+", plain) else None


def as_ts(value: object) -> str | None:
    """Return a Unix time, in seconds or a finer unit, or an ISO 8601 time; None for all else."""
    if isinstance(value, str):
        value = value.strip()
        match = _UNIX_TIME.fullmatch(value)
        value = int(match[1]) if match else value
    if isinstance(value, float) and 0 <= value < _MILLISECONDS_FROM:
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return _unix(value)
    return _iso(value) if isinstance(value, str) else None


def rfc_2822_as_ts(value: object) -> str | None:
    """Return a time like `Thu, 24 Aug 2023 05:01:45 +0000`; None for all else."""
    try:
        return _iso(parsedate_to_datetime(value).isoformat()) if isinstance(value, str) else None
    except ValueError:
        return None


def _unix(value: int) -> str | None:
    divisor = 1
    while value >= _MILLISECONDS_FROM * divisor and divisor < 10**9:
        divisor *= 1000
    seconds, rest = divmod(value, divisor)
    if not 0 <= seconds < _MILLISECONDS_FROM:
        return None
    text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{rest:0{len(str(divisor)) - 1}}Z" if rest else f"{text}Z"


def _iso(value: str) -> str | None:
    try:
        return Timestamp.parse(value).text
    except PydanticCustomError:
        pass
    try:
        moment = datetime.fromisoformat(value)
        moment = moment.astimezone(UTC) if moment.tzinfo else moment
        return Timestamp.parse(f"{moment.replace(tzinfo=None).isoformat()}Z").text
    except (ValueError, OverflowError):
        return None
