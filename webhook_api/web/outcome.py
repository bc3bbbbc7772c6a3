"""The outcome of the current request: the route fills it in, the hooks read it."""

from flask import g

from webhook_api.outcome import Outcome


def begin_outcome() -> Outcome:
    """Start the outcome of the current request; it is an error until the route sets another."""
    outcome = g.outcome = Outcome()
    return outcome


def current_outcome() -> Outcome | None:
    """Return the outcome of the current request; None if it is not a delivery."""
    outcome: Outcome | None = g.get("outcome")
    return outcome
