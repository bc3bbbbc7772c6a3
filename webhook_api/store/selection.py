"""Which messages to remove."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple


class Selection(NamedTuple):
    """Which messages to remove: a condition in SQL, and its parameters."""

    condition: str
    parameters: Sequence[str]


def older_than(moment: datetime) -> Selection:
    """Select the messages that arrived before `moment`, by the server's time."""
    text = moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return Selection("created_at < ?", [text])


def of_number(number: str) -> Selection:
    """Select the messages from or to `number`."""
    return Selection("from_msisdn = ? OR to_msisdn = ?", [number, number])


EVERYTHING = Selection("TRUE", [])
NOTHING = Selection("FALSE", [])
