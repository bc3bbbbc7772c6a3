"""The parts of one application, made by `create_app`; what needs one is given it, or asks here."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from flask import Flask, current_app

from webhook_api.intake.group_commit import GroupCommit
from webhook_api.providers import Provider
from webhook_api.reading.conditions import CountCache
from webhook_api.reading.long_reads import LongReads
from webhook_api.store.database import Database

_KEY = "webhook_api"  # in `app.extensions`, where Flask and its extensions have their own


@dataclass(frozen=True)
class Services:
    """All parts live as long as the application."""

    database: Database
    commits: GroupCommit
    reads: LongReads
    counts: CountCache
    providers: Mapping[str, Provider]  # those that are set up, by name
    report_waiting: Callable[[int], None]  # told how many requests wait for messages


def register_services(app: Flask, services: Services) -> None:
    """Give the application its parts."""
    app.extensions[_KEY] = services


def services_of(app: Flask) -> Services:
    """Return the parts of an application."""
    services: Services = app.extensions[_KEY]
    return services


def current_services() -> Services:
    """Return the parts of the application that answers the current request."""
    return services_of(current_app)
