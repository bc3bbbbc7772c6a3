"""Pages of GET /messages, and the links between them."""

import re
from collections.abc import Callable
from typing import Any

from flask.testing import FlaskClient
from werkzeug.test import TestResponse


def names(reply: Any) -> list[str]:
    return [message["message_id"] for message in reply["data"]]


def following(response: TestResponse) -> str:
    """Return the URL of the `next` link, "" if there is none."""
    match = re.fullmatch(r'<([^>]*)>; rel="next"', response.headers.get("Link", ""))
    return match[1] if match else ""


def walk(
    client: FlaskClient, url: str, after_each: Callable[[], object] = lambda: None
) -> list[str]:
    """Follow `next` from `url` to the end; return every message_id on these pages."""
    visited = []
    while url:
        response = client.get(url)
        assert response.status_code == 200
        visited += names(response.json)
        url = following(response)
        after_each()
    return visited
