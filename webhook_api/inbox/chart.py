"""Draws bars: the name of each, and where it is in an SVG of 60 units in height."""

import time
from collections.abc import Sequence
from typing import NamedTuple

from webhook_api.inbox.overview import Bar

_WIDTH, _GAP, _MAX_HEIGHT, _MIN_HEIGHT = 10, 1, 58, 2


class Column(NamedTuple):
    """A bar as it is drawn: from the left, and from the bottom upwards."""

    name: str
    messages: int
    x: int
    height: int


def draw(bars: Sequence[Bar], form: str) -> list[Column]:
    """Return the columns of `bars`, named by their start in UTC; `form` is that of `strftime`."""
    highest = max(bar.messages for bar in bars)
    return [
        Column(
            time.strftime(form, time.gmtime(start)),
            messages,
            index * _WIDTH + _GAP,
            max(messages * _MAX_HEIGHT // highest, _MIN_HEIGHT) if messages else 1,
        )
        for index, (start, messages) in enumerate(bars)
    ]
