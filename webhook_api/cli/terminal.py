"""Text of others for a terminal: what would control it is shown, and does nothing."""

import click


def plain(text: str) -> str:
    """Return `text` on one line, without escape sequences, C1 and bidirectional controls.

    A terminal would obey the first two; the last make a text look like another (CVE-2021-42574).
    """
    return "".join(c if c.isprintable() else "\ufffd" for c in text)


def say(text: str, *, err: bool = False) -> None:
    """Print a line that may have text of others: ids, names of files, answers of a server."""
    click.echo(plain(text), err=err)
