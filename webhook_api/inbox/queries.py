"""What may be asked of the pages at /inbox."""

import re
from typing import Annotated

from pydantic import BeforeValidator, Field

from webhook_api.models import CursorText, MessageFilter, WantedNumber
from webhook_api.timestamps import UtcTimestamp

_SHORT_TIME = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})(?:[ T]([0-9]{2}:[0-9]{2})(:[0-9]{2}(?:\.[0-9]{1,9})?)?)?Z?"
)


def _whole_time(value: object) -> object:
    # People type a day, or a day and a time.
    found = _SHORT_TIME.fullmatch(value) if isinstance(value, str) else None
    return f"{found[1]}T{found[2] or '00:00'}{found[3] or ':00'}Z" if found else value


_Time = Annotated[UtcTimestamp, BeforeValidator(_whole_time)]


class InboxFilter(MessageFilter):
    """Which messages are shown, or counted as new: the filters of the API, and the receiver."""

    since: _Time | None = None
    until: _Time | None = None
    to_msisdn: WantedNumber | None = Field(None, alias="to")


class InboxQuery(InboxFilter):
    """A page of the inbox: the newest that match, or those before or after a cursor."""

    older: CursorText | None = None
    newer: CursorText | None = None
