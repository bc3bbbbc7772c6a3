"""What a message is, in a few words: its kind, and the type and name of its file."""

from collections.abc import Mapping, Sequence

from pydantic_core import from_json

from webhook_api.store.connections import Connection

_MAX_CHARS = 16 * 1024  # of a payload that is read for a list
_NONE: Mapping[str, object] = {}


def describe_kind(kind: str | None, payload: object) -> str:
    """Return `image, image/jpeg`, or `document, application/pdf, bill.pdf`; empty: not known."""
    content = payload if isinstance(payload, dict) else _NONE
    media = content.get(kind or "")
    media = media if isinstance(media, dict) else _NONE
    types = [value for name, value in content.items() if name.startswith("MediaContentType")]
    parts = [kind, media.get("mime_type"), *types, media.get("filename")]
    return ", ".join(part for part in parts if isinstance(part, str) and part)


def kinds_of(db: Connection, row_ids: Sequence[int]) -> dict[int, str]:
    """Return what the messages of these rows are, of those where it is known and no text."""
    marks = ", ".join("?" * len(row_ids))
    rows = db.execute(
        "SELECT id, kind, CASE WHEN length(payload) <= ? THEN payload END FROM messages"
        f" WHERE id IN ({marks}) AND kind <> 'text'",
        [_MAX_CHARS, *row_ids],
    )
    return {
        row_id: describe_kind(kind, from_json(payload) if payload else None)
        for row_id, kind, payload in rows
    }
