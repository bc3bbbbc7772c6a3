"""The progress bar of the commands."""

import sys
from collections.abc import Iterator
from typing import Any

import click


def progress_bar(label: str, length: int | None) -> Any:
    """Return a bar on stderr, if that is a terminal; without `length` it shows no end."""
    # With an iterator, an empty one, Click accepts an unknown length.
    nothing: Iterator[None] = iter(())
    hidden = not sys.stderr.isatty()
    return click.progressbar(nothing, length=length, label=label, file=sys.stderr, hidden=hidden)
