"""What may come in: an inbound message, and the query strings of the reading routes."""

import base64
import binascii
import codecs
import json
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    StringConstraints,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError, from_json

from webhook_api.errors import InvalidInput
from webhook_api.timestamps import Instant, UtcTimestamp, WantedTime

MAX_TEXT_CHARS = 4096
MAX_PAGE_SIZE = 100
MAX_ID_CHARS = 512
MAX_NUMBER_CHARS = 64
MAX_ADDRESS_CHARS = 256  # of a provider's message
MAX_INTEGER = 2**63 - 1  # the largest that SQLite stores

Model = TypeVar("Model", bound=BaseModel)


class Cursor(NamedTuple):
    """Where a page starts: after the row `id`, whose `ts` names `instant`."""

    instant: Instant
    id: int

    def encode(self) -> str:
        """Return the opaque text that stands for it in a URL."""
        plain = f"{self.instant.seconds}.{self.instant.nanos}.{self.id}"
        return base64.urlsafe_b64encode(plain.encode()).decode().rstrip("=")

    @classmethod
    def parse(cls, value: object) -> Self:
        """Read what `encode` wrote, or raise PydanticCustomError."""
        try:
            padded = str(value) + "=" * (-len(str(value)) % 4)
            plain = base64.b64decode(padded, altchars=b"-_", validate=True).decode("ascii")
            seconds, nanos, row_id = (int(part) for part in plain.split("."))
        except (ValueError, binascii.Error):
            seconds = nanos = row_id = MAX_INTEGER + 1
        if max(abs(seconds), abs(nanos), abs(row_id)) > MAX_INTEGER:
            raise PydanticCustomError("cursor", "Input should be a cursor from a Link header")
        return cls(Instant(seconds, nanos), row_id)


FeedStart = Literal["start", "now"]


class FeedPosition(NamedTuple):
    """A place in the feed: after the message of the row `id`, which the digits prove."""

    id: int
    digits: str

    def __str__(self) -> str:
        return f"{self.id}.{self.digits}"

    @classmethod
    def parse(cls, value: object) -> "FeedPosition | FeedStart":
        """Read a position, or the word for the start or the end of the feed.

        A bare number is none, since it proves nothing. Raises PydanticCustomError.
        """
        if value in ("start", "now"):
            return value
        match = re.fullmatch(r"(0|[1-9][0-9]{0,18})\.([a-z2-7]{8})", str(value))
        if not match or int(match[1]) > MAX_INTEGER:
            raise PydanticCustomError(
                "position", "Input should be start, now, or a position from an earlier response"
            )
        return cls(int(match[1]), match[2])


def _digits(value: object) -> object:
    # Pydantic would also take "1_0" and "5.0" for whole numbers. A bare plus came as a space.
    if not isinstance(value, str):
        return value
    number = value.strip(" ")
    if not re.fullmatch(r"[+-]?[0-9]{1,40}", number):
        raise PydanticCustomError("int_parsing", "Input should be a whole number")
    return number


def _restore_plus(value: object) -> object:
    # People write `?from=+9198...`, and in a query string a plus means a space.
    return "+" + value[1:] if isinstance(value, str) and value.startswith(" ") else value


WholeNumber = BeforeValidator(_digits)  # after the limits, which the schema then shows
_HALF = re.compile(rb"\\u[dD][89a-fA-F]")  # of a pair of surrogates
PhoneNumber = Annotated[str, StringConstraints(pattern=r"^\+[0-9]+$")]  # of any length
_NewNumber = Annotated[PhoneNumber, StringConstraints(max_length=MAX_NUMBER_CHARS)]
_NewId = Annotated[str, StringConstraints(min_length=1, max_length=MAX_ID_CHARS)]
Address = Annotated[str, StringConstraints(min_length=1, max_length=MAX_ADDRESS_CHARS)]
WantedNumber = Annotated[str, BeforeValidator(_restore_plus)]  # or any text, which finds nothing
CursorText = Annotated[
    Cursor, PlainValidator(Cursor.parse), WithJsonSchema({"type": "string", "format": "cursor"})
]


class Origin(NamedTuple):
    """Where a message came from: who delivered it, its kind, and the provider's object for it.

    The kind is the provider's own word (`image`), None if there is none. The payload is JSON.
    The table of messages has columns of these names.
    """

    provider: str
    kind: str | None = None
    payload: str | None = None


OWN = "webhook"  # the provider of what comes to /webhook


class InboundMessage(BaseModel):
    """One message as the provider delivers it; other fields are ignored."""

    # Source: spec 1, "Validation".
    model_config = ConfigDict(frozen=True, extra="ignore")

    message_id: _NewId = Field(
        description="The provider's name for the message; deliveries that share it are repeats."
    )
    from_msisdn: _NewNumber = Field(alias="from", description="The sender's number.")
    to_msisdn: _NewNumber = Field(alias="to", description="The receiver's number.")
    ts: UtcTimestamp = Field(
        description="When it was sent, in UTC: a real date and time, to the nanosecond at most."
    )
    text: Annotated[str, StringConstraints(max_length=MAX_TEXT_CHARS)] | None = Field(
        None, description="The text, if it has one."
    )

    @property
    def origin(self) -> Origin:
        """Who delivered it, and what else is kept of it."""
        return Origin(OWN, None if self.text is None else "text")


class ImportedMessage(InboundMessage):
    """A message of an import: earlier versions stored ids and numbers of any length."""

    message_id: Annotated[str, StringConstraints(min_length=1)]
    from_msisdn: PhoneNumber = Field(alias="from")
    to_msisdn: PhoneNumber = Field(alias="to")


class ProviderMessage(InboundMessage):
    """A message of a provider: its addresses need not be numbers."""

    from_msisdn: Address = Field(alias="from")
    to_msisdn: Address = Field(alias="to")
    kept: Origin

    @property
    def origin(self) -> Origin:
        return self.kept


class AddressFilter(BaseModel):
    """The filters that every list has; `from_msisdn` is another name of `from`."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    from_msisdn: WantedNumber | None = Field(
        None,
        alias="from",
        description="Only messages from exactly this number; its plus may be sent unencoded.",
        examples=["+919876543210"],
    )
    to_msisdn: WantedNumber | None = Field(
        None,
        alias="to",
        description="Only messages to exactly this number; its plus may be sent unencoded.",
        examples=["+14155550100"],
    )
    provider: str | None = Field(
        None,
        description="Only messages that this provider delivered; `webhook` for `POST /webhook`.",
        examples=["twilio"],
    )


class CommonFilter(AddressFilter):
    """The filters that every route has which reads in the order of instants."""

    since: WantedTime | None = Field(
        None,
        description="Only messages of this instant or later: ISO 8601, UTC unless it has an offset;"
        " a date is its midnight.",
        examples=["2025-01-15T09:30:00Z"],
    )
    until: WantedTime | None = Field(
        None,
        description="Only messages of an earlier instant than this, which is given like `since`.",
        examples=["2025-01-16T00:00:00Z"],
    )

    by_row: ClassVar = ("to_msisdn", "provider")  # no index is in the order of their values

    @property
    def reads_all(self) -> bool:
        """Whether each message has to be read to know whether it matches."""
        return any(getattr(self, column) is not None for column in self.by_row)


class StatsQuery(CommonFilter):
    """Which messages `/stats` counts: those that match every filter that is given."""


class MessageFilter(CommonFilter):
    """Which messages to list (spec 2): those that match every filter that is given."""

    message_id: str | None = Field(
        None,
        description="Only the message with exactly this id, if there is one.",
        examples=["twilio:SM1"],
    )
    q: str | None = Field(
        None,
        description="Only messages whose text contains this, in any case; no wildcards.",
        examples=["hello"],
    )


PageSize = Annotated[int, Field(ge=1, le=MAX_PAGE_SIZE), WholeNumber]


class MessageQuery(MessageFilter):
    """A page of them: `limit` rows, from `offset` rows after `cursor` or after the start."""

    limit: PageSize = Field(50, description="How many messages a page may hold.")
    offset: Annotated[int, Field(ge=0, le=MAX_INTEGER), WholeNumber] = Field(
        0, description="How many messages to skip first."
    )
    cursor: CursorText | None = Field(
        None, description="Where the page starts: taken from the `Link` header of the page before."
    )


MAX_WAIT_S = 25
PositionText = Annotated[
    FeedPosition | FeedStart,
    PlainValidator(FeedPosition.parse),
    WithJsonSchema({"type": "string", "format": "position"}),
]


class FeedQuery(AddressFilter):
    """Messages in the order in which they were stored: up to `limit` of them after a position."""

    after: PositionText | None = Field(
        None,
        description="List in the order of arrival, from here on: a `position` of an earlier"
        " response, `start` or `now`.",
        examples=["start"],
    )
    consumer: str | None = Field(
        None, description="The same, from the position that is kept for this consumer."
    )
    wait: Annotated[int, Field(ge=0, le=MAX_WAIT_S), WholeNumber] = Field(
        0, description="With `after` or `consumer`: how many seconds to wait for a message."
    )
    limit: PageSize = Field(50, description="How many messages a page may hold.")

    @model_validator(mode="before")
    @classmethod
    def _refuse_what_a_list_has(cls, given: Any) -> Any:
        of_a_list = MessageQuery.model_fields.keys() - cls.model_fields.keys()
        names = sorted(of_a_list.intersection(given))
        if "after" in given and "consumer" in given:
            names.append("consumer")
        if "wait" in given and not ("after" in given or "consumer" in given):
            raise PydanticCustomError("no_position", "wait needs after or consumer")
        if names:
            raise PydanticCustomError(
                "not_in_a_feed",
                "{names} cannot be used together with a position",
                {"names": ", ".join(names)},
            )
        return given


NAME_PATTERN = "^[a-z0-9][a-z0-9._-]{0,63}$"  # of a consumer


class ConsumerMove(BaseModel):
    """Where a consumer is from now on."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    position: PositionText = Field(description="A position of the feed, `start` or `now`.")


def _validated(model: type[Model], where: str, value: object) -> Model:
    """Return what `value` holds, or raise InvalidInput."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise InvalidInput.from_errors(where, error.errors(include_url=False)) from None


def parse_body(model: type[Model], body: bytes) -> Model:
    """Return what the JSON text `body` holds, or raise InvalidInput."""
    return _validated(model, "body", parse_json(body))


def parse_query(model: type[Model], args: Mapping[str, str]) -> Model:
    """Return the query that the URL's parameters hold, or raise InvalidInput.

    An empty parameter counts as absent.
    """
    return _validated(model, "query", {name: value for name, value in args.items() if value})


def parse_json(body: bytes) -> Any:
    """Return what the JSON text `body` says (RFC 8259; UTF-8 only, no NaN, no Infinity).

    A byte order mark before it is ignored. Half an emoji, which gateways leave when they cut a
    text, stays a lone surrogate: `InboundMessage` refuses it except in `text` (see `mended`).

    Raises:
        InvalidInput: it is not JSON, not UTF-8, or nested beyond the parser's limit.
    """
    try:
        return from_json(body, allow_inf_nan=False)
    except ValueError as error:
        reason = error
    with suppress(ValueError, RecursionError):
        if body.startswith(codecs.BOM_UTF8) and not body.startswith(2 * codecs.BOM_UTF8):
            return parse_json(body.removeprefix(codecs.BOM_UTF8))
        if _HALF.search(body):
            value = json.loads(body.decode(), parse_constant=_refuse)
            from_json(mended(json.dumps(value, ensure_ascii=False)))  # is it nested too deep?
            return value
    fault = {"type": "json_invalid", "loc": ["body"], "msg": f"Invalid JSON: {reason}"}
    raise InvalidInput([fault])


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def mended(text: str) -> str:
    """Return `text` with U+FFFD in the place of each lone surrogate."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def parse_message(payload: object, model: type[InboundMessage] = InboundMessage) -> InboundMessage:
    """Return the message that a parsed body holds, or raise InvalidInput."""
    try:
        return _validated(model, "body", payload)
    except InvalidInput:
        if not isinstance(payload, dict) or not isinstance(text := payload.get("text"), str):
            raise
        if (complete := mended(text)) == text:
            raise
    return _validated(model, "body", {**payload, "text": complete})
