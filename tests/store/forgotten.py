"""A number that is to be forgotten, a text with it, and where they can still be found."""

from pathlib import Path

NUMBER = "+4915112345678"
TEXT = "My secret is ☃ snow"
SECRETS = [NUMBER.encode(), b"4915112345678", TEXT.encode(), "☃".encode()]


def traces(folder: Path) -> list[str]:
    """The files in which the number or its text can be found."""
    return [
        file.name
        for file in sorted(folder.iterdir())
        if file.is_file() and any(secret in file.read_bytes() for secret in SECRETS)
    ]
