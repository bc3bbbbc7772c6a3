"""Finds the hits of a search in a text, to mark them: exactly those that the API finds."""

from typing import NamedTuple

from webhook_api.store.folding import fold

_MOST = 200  # in one text: a letter alone would make a page of megabytes


class Part(NamedTuple):
    """A part of a text: a hit, or what is between two hits."""

    text: str
    is_hit: bool


def mark_hits(text: str, q: str | None) -> list[Part]:
    """Return `text` in parts, the first hits marked.

    Folding does not move characters, so hits can be cut out.
    """
    phrase = fold(q) if q else ""
    if not phrase:
        return [Part(text, is_hit=False)]
    folded = fold(text)
    parts: list[Part] = []
    end = 0
    while len(parts) < 2 * _MOST and (start := folded.find(phrase, end)) >= 0:
        if start > end:
            parts.append(Part(text[end:start], is_hit=False))
        end = start + len(phrase)
        parts.append(Part(text[start:end], is_hit=True))
    if end < len(text):
        parts.append(Part(text[end:], is_hit=False))
    return parts
