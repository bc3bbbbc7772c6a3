"""Who a message is from and to: a number where the provider gives one, else what it gives."""

import re
import unicodedata
from collections.abc import Sequence

from webhook_api.models import MAX_ADDRESS_CHARS, mended

UNKNOWN = "unknown"  # the provider gave no address at all

_CHANNEL = re.compile(r"([a-z]+):(.*)", re.IGNORECASE | re.DOTALL)
_FORMATTING = {"Cf", "Pd", "Zs"}  # marks of direction, hyphens of all kinds, spaces (Unicode)
# Of WhatsApp's own ids, which are numbers without a plus. Shorter ones are short codes.
_MIN_DIGITS = 7


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
