"""The server's time as text. These texts compare as their moments do."""

from datetime import UTC, datetime


def as_text(moment: datetime) -> str:
    """Return `moment` in ISO-8601, in UTC, with milliseconds."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def now_as_text() -> str:
    """Return the server's time now."""
    return as_text(datetime.now(UTC))
