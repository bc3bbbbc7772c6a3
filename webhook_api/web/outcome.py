"""The outcome of the current request, where the route fills it in and the hooks read it."""

from flask import g

from webhook_api.outcome import Outcome


def begin_outcome() -> Outcome:
    """Start the outcome of the current request, as an error until something better is known."""
    outcome = g.outcome = Outcome()
    return outcome


def current_outcome() -> Outcome | None:
    """Return the current request's outcome; None if it is no delivery."""
    outcome: Outcome | None = g.get("outcome")
    return outcome
