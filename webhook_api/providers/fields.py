"""The fields of a message in one form: who it is from and to, and when it was sent.

An address is a number where the provider gives one, else what it gives. A time is that of `ts`.
"""

import re
import unicodedata
from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from pydantic_core import PydanticCustomError

from webhook_api.models import MAX_ADDRESS_CHARS, mended
from webhook_api.timestamps import Timestamp

UNKNOWN = "unknown"  # the provider gave no address at all

_CHANNEL = re.compile(r"([a-z]+):(.*)", re.IGNORECASE | re.DOTALL)
_FORMATTING = {"Cf", "Pd", "Zs"}  # marks of direction, hyphens of all kinds, spaces (Unicode)
# Of WhatsApp's own ids, which are numbers without a plus. Shorter ones are short codes.
_MIN_DIGITS = 7
_UNIX_TIME = re.compile(r"([0-9]{1,19})(\.[0-9]*)?")
_MILLISECONDS_FROM = 10**11  # in seconds, this is the year 5138


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
    return mended(value).strip() if isinstance(value, str) else ""


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
