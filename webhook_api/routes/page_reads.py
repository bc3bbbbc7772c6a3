"""How the routes read a page: at once, or in turn if that may take long."""

from collections.abc import Callable
from typing import TypeVar

from flask import current_app, request

from webhook_api.db import get_db
from webhook_api.reading.turns import Reading
from webhook_api.store.connections import Connection
from webhook_api.web.client_left import whether_client_left

T = TypeVar("T")


def read_page(make: Callable[[Connection], T], *, takes_long: bool) -> T:
    """Call `make` with a reader, and return what it returns.

    Raises:
        RequestRefused: 503 or 499, see `Reading.read`.
        sqlite3.Error: the database cannot be read.
    """
    if takes_long:
        reading: Reading = current_app.extensions["reading"]
        return reading.read(make, whether_client_left(request.environ))
    with current_app.extensions["pages"]:
        return make(get_db())
