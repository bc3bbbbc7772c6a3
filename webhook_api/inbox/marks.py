"""Finds the hits of a search in a text, to mark them: exactly those that the API finds."""

import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

from webhook_api.store.folding import fold, parts_that_fold_alone

_MAX_HITS = 200  # in one text: a letter alone would make a page of megabytes


class Part(NamedTuple):
    """A part of a text: a hit, or what is between two hits."""

    text: str
    is_hit: bool


def mark_hits(text: str, q: str | None) -> list[Part]:
    """Return `text` in parts, the first hits marked.

    Of characters that are folded together, such as e and an accent, all are marked or none.
    """
    phrase = fold(q) if q else ""
    if not phrase:
        return [Part(text, is_hit=False)]
    folded = fold(text)
    starts, ends = _origins(text, folded)
    parts: list[Part] = []
    end = found = 0
    while len(parts) < 2 * _MAX_HITS and (found := folded.find(phrase, found)) >= 0:
        start = max(end, starts[found])
        found += len(phrase)
        if start > end:
            parts.append(Part(text[end:start], is_hit=False))
        end = max(start, ends[found - 1])
        parts.append(Part(text[start:end], is_hit=True))
    if end < len(text):
        parts.append(Part(text[end:], is_hit=False))
    return parts


def _origins(text: str, folded: str) -> tuple[Sequence[int], Sequence[int]]:
    """Return where in `text` the origin of each folded character starts, and where it ends."""
    if len(folded) == len(text) and unicodedata.is_normalized("NFC", text):
        return range(len(text)), range(1, len(text) + 1)
    starts: list[int] = []
    ends: list[int] = []
    at = 0
    for part in parts_that_fold_alone(text):
        length = len(fold(part))
        starts += [at] * length
        at += len(part)
        ends += [at] * length
    return starts, ends
