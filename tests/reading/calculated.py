"""What a list of messages has to be answered with, calculated from the messages themselves."""

import unicodedata
from datetime import datetime
from typing import Any

Message = dict[str, Any]


def simple_fold(text: str) -> str:
    """Fold each character to a single one: Unicode's simple case folding, of composed text."""

    def fold(character: str) -> str:
        forms = [character.casefold(), character.lower(), character]
        return next(form for form in forms if len(form) == 1)

    composed = unicodedata.normalize("NFC", text).replace("İ", "i")
    small = "".join(fold(character) for character in composed)
    return unicodedata.normalize("NFC", small.replace("i\u0307", "i"))


def instant(ts: str) -> tuple[float, int]:
    whole, _, fraction = ts.removesuffix("Z").partition(".")
    seconds = (datetime.fromisoformat(whole) - datetime(1970, 1, 1)).total_seconds()
    return seconds, int(fraction.ljust(9, "0"))


def in_order(messages: list[Message]) -> list[Message]:
    return sorted(messages, key=lambda message: (instant(message["ts"]), message["message_id"]))


def provider_of(message: Message) -> str:
    """Of the messages of these tests."""
    provider, colon, _ = message["message_id"].partition(":")
    return provider if colon else "webhook"


def matches(message: Message, wanted: dict[str, str | None]) -> bool:
    return (
        (wanted["from"] is None or message["from"] == wanted["from"])
        and wanted.get("to") in (None, message["to"])
        and (wanted.get("message_id") or None) in (None, message["message_id"])
        and wanted.get("provider") in (None, provider_of(message))
        and (wanted["since"] is None or instant(message["ts"]) >= instant(wanted["since"]))
        and (
            not wanted.get("q")
            or simple_fold(wanted["q"] or "") in simple_fold(message["text"] or "")
        )
        and (not wanted.get("until") or instant(message["ts"]) < instant(wanted["until"] or ""))
    )
