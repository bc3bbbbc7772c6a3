"""When a message was sent, in the format of `ts`, from the formats that providers use."""

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from pydantic_core import PydanticCustomError

from webhook_api.timestamps import Timestamp

_UNIX_TIME = re.compile(r"([0-9]{1,19})(\.[0-9]*)?")
_MILLISECONDS_FROM = 10**11  # in seconds, this is the year 5138


def as_ts(value: object) -> str | None:
    """Return a Unix time, in seconds or a finer unit, or an ISO 8601 time; None for all else."""
    if isinstance(value, str):
        value = value.strip()
        match = _UNIX_TIME.fullmatch(value)
        value = int(match[1]) if match else value
    if isinstance(value, float) and 0 <= value < _MILLISECONDS_FROM:
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return _unix(value)
    return _iso(value) if isinstance(value, str) else None


def rfc_2822_as_ts(value: object) -> str | None:
    """Return a time like `Thu, 24 Aug 2023 05:01:45 +0000`; None for all else."""
    try:
        return _iso(parsedate_to_datetime(value).isoformat()) if isinstance(value, str) else None
    except ValueError:
        return None


def _unix(value: int) -> str | None:
    divisor = 1
    while value >= _MILLISECONDS_FROM * divisor and divisor < 10**9:
        divisor *= 1000
    seconds, rest = divmod(value, divisor)
    if not 0 <= seconds < _MILLISECONDS_FROM:
        return None
    text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{rest:0{len(str(divisor)) - 1}}Z" if rest else f"{text}Z"


def _iso(value: str) -> str | None:
    try:
        return Timestamp.parse(value).text
    except PydanticCustomError:
        pass
    try:
        moment = datetime.fromisoformat(value)
        moment = moment.astimezone(UTC) if moment.tzinfo else moment
        return Timestamp.parse(f"{moment.replace(tzinfo=None).isoformat()}Z").text
    except (ValueError, OverflowError):
        return None
