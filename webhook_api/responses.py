"""What goes out: the shapes of the JSON responses, for the routes and for /openapi.json.

At run time they are plain dicts, which cost nothing; mypy checks that the routes use them right.
"""

from typing import Annotated, Any, Literal, NotRequired

from pydantic import ConfigDict, Field, WithJsonSchema, with_config
from typing_extensions import TypedDict

from webhook_api.models import MAX_PAGE_SIZE
from webhook_api.timestamps import TIMESTAMP_PATTERN

TOP_SENDERS = 10  # of /stats

Count = Annotated[int, Field(ge=0)]
TimestampText = Annotated[
    str, WithJsonSchema({"type": "string", "format": "date-time", "pattern": TIMESTAMP_PATTERN})
]
Address = Annotated[
    str, Field(description="A number; of a provider also another address: `SUPPORT`, `US.1349…`.")
]
_exact = with_config(ConfigDict(extra="forbid"))


@_exact
class Accepted(TypedDict):
    """The message is on disk, now or since an earlier delivery."""

    status: Literal["ok"]


@_exact
class Alive(TypedDict):
    """The process serves."""

    status: Literal["alive"]


@_exact
class Ready(TypedDict):
    """A message could be stored now."""

    status: Literal["ready"]


# No field of a class can have the name `from`.
_From = TypedDict("_From", {"from": Address})


@_exact
class Message(_From):
    """A stored message, as it was delivered."""

    message_id: str
    to: Address
    ts: TimestampText
    text: str | None


@_exact
class CompleteMessage(Message):
    """A stored message with all that is kept of it."""

    received_at: Annotated[TimestampText, Field(description="By the server's time.")]
    provider: Annotated[str, Field(description="`webhook`, or the provider that delivered it.")]
    kind: Annotated[
        str | None, Field(description="The provider's own word for what it is: `text`, `image`, …")
    ]
    payload: Annotated[
        Any,
        Field(description="The provider's object for this message, complete; null: there is none."),
    ]


@_exact
class Page(TypedDict):
    """Some of the messages that match, oldest first."""

    data: Annotated[list[Message], Field(max_length=MAX_PAGE_SIZE)]
    total: Annotated[Count, Field(description="How many match in all.")]
    limit: Count
    offset: Count


PositionText = Annotated[
    str, WithJsonSchema({"type": "string", "pattern": r"^[0-9]+\.[a-z2-7]{8}$"})
]


@_exact
class FeedMessage(CompleteMessage):
    """A message of the feed."""

    position: Annotated[PositionText, Field(description="After this message.")]


@_exact
class FeedPage(TypedDict):
    """Some messages, in the order in which they were stored."""

    data: Annotated[list[FeedMessage], Field(max_length=MAX_PAGE_SIZE)]
    position: Annotated[PositionText, Field(description="Where the next request goes on.")]
    more: Annotated[bool, Field(description="Whether there may be more now.")]
    acknowledged: NotRequired[
        Annotated[PositionText, Field(description="The position that is kept for the consumer.")]
    ]


@_exact
class ConsumerState(TypedDict):
    """A named consumer, and how far it is behind."""

    name: str
    position: PositionText
    behind: Annotated[Count, Field(description="Messages; exact up to 10,000, else not too few.")]
    oldest_unread_seconds: Annotated[float, Field(ge=0, description="0 if it has read all.")]
    missed: Annotated[
        Count, Field(description="How many were removed by age before it had read them.")
    ]
    updated_at: TimestampText


@_exact
class ConsumerList(TypedDict):
    """All consumers, by name."""

    data: list[ConsumerState]


@_exact
class Sender(_From):
    """A sender, and how many messages came from it."""

    count: Annotated[int, Field(ge=1)]


@_exact
class Statistics(TypedDict):
    """How many messages there are, of which senders, and when."""

    total_messages: Count
    senders_count: Count
    messages_per_sender: Annotated[
        list[Sender],
        Field(
            max_length=TOP_SENDERS,
            description="The senders with most messages: largest count first, then by number.",
        ),
    ]
    first_message_ts: Annotated[
        TimestampText | None, Field(description="Null if there is no message.")
    ]
    last_message_ts: Annotated[
        TimestampText | None, Field(description="Null if there is no message.")
    ]


@_exact
class Error(TypedDict):
    """Why a request was refused."""

    detail: str


@_exact
class WrongState(TypedDict):
    """Why what is stored does not allow a request, for people and for programs."""

    detail: str
    code: Annotated[str, Field(description="`pruned`, `diverged`, `moved`, …")]
    start: NotRequired[
        Annotated[PositionText, Field(description="Before all stored messages: go on here.")]
    ]
    end: NotRequired[Annotated[PositionText, Field(description="After all stored messages.")]]
    position: NotRequired[Annotated[PositionText, Field(description="Where the consumer is.")]]


@_exact
class Fault(TypedDict):
    """One thing that is wrong with a body or a query."""

    type: str
    loc: Annotated[
        list[str | int], Field(description="`body` or `query`, then the path to the field.")
    ]
    msg: str


@_exact
class Faults(TypedDict):
    """Everything that is wrong with a body or a query."""

    detail: Annotated[list[Fault], Field(min_length=1)]
