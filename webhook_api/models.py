"""What may come in: an inbound message, and the query strings of the reading routes."""

import base64
import binascii
import codecs
import json
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Annotated, Any, NamedTuple, Self, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    StringConstraints,
    ValidationError,
    WithJsonSchema,
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

Query = TypeVar("Query", bound=BaseModel)


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
        """Read what `encode` wrote.

        Raises:
            PydanticCustomError: it is not from `encode`.
        """
        try:
            padded = str(value) + "=" * (-len(str(value)) % 4)
            plain = base64.b64decode(padded, altchars=b"-_", validate=True).decode("ascii")
            seconds, nanos, row_id = (int(part) for part in plain.split("."))
        except (ValueError, binascii.Error):
            seconds = nanos = row_id = MAX_INTEGER + 1
        if max(abs(seconds), abs(nanos), abs(row_id)) > MAX_INTEGER:
            raise PydanticCustomError("cursor", "Input should be a cursor from a Link header")
        return cls(Instant(seconds, nanos), row_id)


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
    Cursor,
    PlainValidator(Cursor.parse),
    WithJsonSchema({"type": "string", "format": "cursor"}),
]


class Origin(NamedTuple):
    """Where a message came from: who delivered it, its kind, and the provider's object for it.

    The kind is the provider's own word (`image`), None if there is none. The payload is JSON.
    """

    provider: str
    kind: str | None = None
    payload: str | None = None


OWN = "webhook"  # the provider of what comes to /webhook
_OWN_TEXT, _OWN = Origin(OWN, "text"), Origin(OWN)


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
        return _OWN_TEXT if self.text is not None else _OWN


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


class SenderFilter(BaseModel):
    """The filters that every reading route has; `from_msisdn` is another name of `from`."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    from_msisdn: WantedNumber | None = Field(
        None,
        alias="from",
        description="Only messages from exactly this number; its plus may be sent unencoded.",
        examples=["+919876543210"],
    )
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


class StatsQuery(SenderFilter):
    """Which messages `/stats` counts: of one sender, in `since <= instant < until`."""


class MessageFilter(SenderFilter):
    """Which messages to list (spec 2): those that match every filter that is given."""

    q: str | None = Field(
        None,
        description="Only messages whose text contains this, in any case; no wildcards.",
        examples=["hello"],
    )


class MessageQuery(MessageFilter):
    """A page of them: `limit` rows, from `offset` rows after `cursor` or after the start."""

    limit: Annotated[int, Field(ge=1, le=MAX_PAGE_SIZE), WholeNumber] = Field(
        50, description="How many messages a page may hold."
    )
    offset: Annotated[int, Field(ge=0, le=MAX_INTEGER), WholeNumber] = Field(
        0, description="How many messages to skip first."
    )
    cursor: CursorText | None = Field(
        None,
        description="Where the page starts: taken from the `Link` header of the page before.",
    )


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
    """Return the message that a parsed body holds.

    Raises:
        InvalidInput: a field is missing or breaks its rule.
    """
    try:
        return model.model_validate(payload)
    except ValidationError as error:
        faults = error.errors(include_url=False)
    if isinstance(payload, dict) and isinstance(text := payload.get("text"), str):
        whole = mended(text)
        if whole != text:
            return parse_message({**payload, "text": whole}, model)
    raise InvalidInput.from_errors("body", faults)


def parse_query(model: type[Query], args: Mapping[str, str]) -> Query:
    """Return the query that the URL's parameters hold; an empty parameter counts as absent.

    Raises:
        InvalidInput: a parameter breaks its rule.
    """
    try:
        return model.model_validate({name: value for name, value in args.items() if value})
    except ValidationError as error:
        raise InvalidInput.from_errors("query", error.errors(include_url=False)) from None
