"""What may be asked of the pages at /inbox."""

from typing import Annotated, Literal

from pydantic import Field

from webhook_api.models import MAX_INTEGER, CursorText, MessageFilter, WholeNumber


class ArrivalsQuery(MessageFilter):
    """Which messages are new: those that arrived after the row `above`."""

    above: Annotated[int, Field(ge=0, le=MAX_INTEGER), WholeNumber]


class InboxQuery(MessageFilter):
    """A page of the inbox: the newest that match, or those before or after a cursor."""

    order: Literal["arrival", "ts"] = "arrival"
    older: CursorText | None = None
    newer: CursorText | None = None
