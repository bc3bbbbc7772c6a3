"""Which messages and dead letters to remove."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from webhook_api.server_time import as_text


class Selection(NamedTuple):
    """Which messages to remove: a condition in SQL, and its parameters.

    It selects dead letters as well; if there is an `address`, those that contain it.
    """

    condition: str
    parameters: Sequence[str]
    address: str | None = None

    @property
    def is_by_age(self) -> bool:
        """Whether it selects by age, so that a reader that was slow has missed messages."""
        return self.address is None


def older_than(moment: datetime) -> Selection:
    """Select the messages that arrived before `moment`, by the server's time."""
    return Selection("created_at < ?", [as_text(moment)])


def of_number(number: str) -> Selection:
    """Select the messages from or to `number`, or another address."""
    return Selection("from_msisdn = ? OR to_msisdn = ?", [number, number], number)


EVERYTHING = Selection("TRUE", [])
