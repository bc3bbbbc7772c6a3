"""What goes out: the shape of each JSON reply, for the API's description.

The routes build their replies without these models; the tests compare both.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from webhook_api.models import MAX_PAGE_SIZE, PhoneNumber, UtcTimestamp
from webhook_api.stats import TOP_SENDERS

Count = Annotated[int, Field(ge=0)]


class Reply(BaseModel):
    """A JSON object with exactly the fields that are named."""

    model_config = ConfigDict(extra="forbid")


class Accepted(Reply):
    """The message is on disk, now or since an earlier delivery."""

    status: Literal["ok"]


class Alive(Reply):
    """The process serves."""

    status: Literal["alive"]


class Ready(Reply):
    """A message could be filed now."""

    status: Literal["ready"]


class Message(Reply):
    """A stored message, as it was delivered."""

    message_id: str
    from_msisdn: PhoneNumber = Field(alias="from")
    to_msisdn: PhoneNumber = Field(alias="to")
    ts: UtcTimestamp
    text: str | None


class Page(Reply):
    """Some of the messages that match, oldest first."""

    data: Annotated[list[Message], Field(max_length=MAX_PAGE_SIZE)]
    total: Count = Field(description="How many match in all.")
    limit: Count
    offset: Count


class Sender(Reply):
    """A sender, and how many messages came from it."""

    from_msisdn: PhoneNumber = Field(alias="from")
    count: Annotated[int, Field(ge=1)]


class Statistics(Reply):
    """How many messages there are, of which senders, and when."""

    total_messages: Count
    senders_count: Count
    messages_per_sender: Annotated[list[Sender], Field(max_length=TOP_SENDERS)] = Field(
        description="The most frequent senders, by falling count, then by number."
    )
    first_message_ts: UtcTimestamp | None = Field(description="Null if there is no message.")
    last_message_ts: UtcTimestamp | None = Field(description="Null if there is no message.")


class Error(Reply):
    """Why a request was refused."""

    detail: str


class Fault(Reply):
    """One thing that is wrong with a body or a query."""

    type: str
    loc: list[str | int] = Field(description="`body` or `query`, then the way to the field.")
    msg: str


class Faults(Reply):
    """Everything that is wrong with a body or a query."""

    detail: Annotated[list[Fault], Field(min_length=1)]
