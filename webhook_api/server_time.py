"""The server's time as text. In alphabetical order, these texts are in the order of time."""

from datetime import UTC, datetime


def as_text(moment: datetime) -> str:
    """Return `moment` in ISO-8601, in UTC, with milliseconds."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def now_as_text() -> str:
    """Return the server's time now."""
    return as_text(datetime.now(UTC))
