"""Points in time, exact to the nanosecond, and the texts that name them; the server's time."""

import re
from datetime import UTC, datetime
from typing import Annotated, NamedTuple, Self

from pydantic import PlainSerializer, PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

TIMESTAMP_PATTERN = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?Z$"
_TIMESTAMP = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2}T([0-9]{2}):[0-9]{2}:[0-9]{2})(?:\.([0-9]{1,9}))?Z"
)
_ISO_8601 = re.compile(
    r"([0-9W-]{8,10})"  # the date; `datetime.fromisoformat` checks it
    r"(?:[Tt ]((?:[01][0-9]|2[0-3])(?::?[0-9]{2})?(?::?[0-9]{2})?)"
    r"((?<=[0-9:]{6})[.,][0-9]{1,9})?)?"  # of a second
    r"([Zz]|[+ -][0-9:]{2,8})?"
)
_EPOCH = datetime(1970, 1, 1)  # without a zone, as what it is subtracted from


class Instant(NamedTuple):
    """A point in time, exact to the nanosecond, that compares as time does.

    `seconds` since 1970-01-01T00:00:00Z (negative before), `nanos` 0..999,999,999 after it.
    """

    seconds: int
    nanos: int


class Timestamp(NamedTuple):
    """A `ts`: the text as it was sent, and the instant that it names."""

    text: str
    instant: Instant

    @classmethod
    def parse(cls, value: object) -> Self:
        """Read `YYYY-MM-DDTHH:MM:SS[.1-9 digits]Z`, a real time, or raise PydanticCustomError."""
        match = _TIMESTAMP.fullmatch(value) if isinstance(value, str) else None
        if match is None:
            raise PydanticCustomError(
                "timestamp_utc", "Input should be a UTC timestamp such as 2025-01-15T10:00:00Z"
            )
        date_and_time, hour, fraction = match.groups(default="")
        try:
            if hour == "24":  # which Python 3.14 takes for the midnight after
                raise ValueError("hour must be in 0..23")
            moment = datetime.fromisoformat(date_and_time)
        except ValueError as error:
            raise PydanticCustomError(
                "timestamp_utc",
                "Input should be a real date and time: {reason}",
                {"reason": str(error)},
            ) from None
        since_epoch = moment - _EPOCH
        seconds = since_epoch.days * 86_400 + since_epoch.seconds
        return cls(match[0], Instant(seconds, int(fraction.ljust(9, "0"))))

    @classmethod
    def parse_iso_8601(cls, value: object) -> Self:
        """Read a date, or a date and time, in ISO 8601; `text` is then in the form of a `ts`.

        An offset is converted, no zone is UTC, and a date is its midnight. The plus of an offset
        may be a space: in a query string, a plus means that. Raises PydanticCustomError.
        """
        match = _ISO_8601.fullmatch(value.strip(" ")) if isinstance(value, str) else None
        try:
            if match is None:
                raise ValueError("another form")
            date, time, fraction, zone = match.groups(default="")
            zone = zone.upper().replace(" ", "+") or "Z"
            moment = datetime.fromisoformat(f"{date}T{time or '00'}{zone}").astimezone(UTC)
            utc = moment.replace(tzinfo=None).isoformat() + fraction.replace(",", ".")
            return cls.parse(f"{utc}Z")
        except (ValueError, OverflowError):
            raise PydanticCustomError(
                "timestamp_iso_8601",
                "Input should be an ISO 8601 time, such as 2025-01-15T09:30:00Z or 2025-01-15",
            ) from None


_as_text = PlainSerializer(lambda timestamp: timestamp.text, return_type=str)

UtcTimestamp = Annotated[
    Timestamp,
    PlainValidator(Timestamp.parse),
    _as_text,
    WithJsonSchema({"type": "string", "format": "date-time", "pattern": TIMESTAMP_PATTERN}),
]
WantedTime = Annotated[  # of a filter
    Timestamp,
    PlainValidator(Timestamp.parse_iso_8601),
    _as_text,
    WithJsonSchema({"type": "string", "format": "date-time"}),
]


def as_text(moment: datetime) -> str:
    """Return `moment` in ISO-8601, in UTC, with milliseconds.

    In alphabetical order, these texts are in the order of time.
    """
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def now_as_text() -> str:
    """Return the server's time now."""
    return as_text(datetime.now(UTC))
