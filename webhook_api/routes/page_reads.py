"""How the routes read: where they are, or where the long reads are."""

from collections.abc import Callable
from typing import TypeVar

from flask import request

from webhook_api.db import get_db
from webhook_api.execution import Place, execution_of
from webhook_api.services import current_services
from webhook_api.store.connections import Connection

T = TypeVar("T")


def read_page(make: Callable[[Connection], T], *, takes_long: bool) -> T:
    """Call `make` with a reader, and return what it returns.

    Raises:
        RunElsewhere: it takes long, and the request is not where it may.
        RequestRefused: 503 or 499, see `LongReads.read`.
        sqlite3.Error: the database cannot be read.
    """
    if not takes_long:
        return make(get_db())
    execution = execution_of(request.environ)
    execution.require(Place.LONG_READ)
    return current_services().reads.read(make, execution.has_client_left)
