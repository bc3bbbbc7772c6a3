"""The Flask application: its routes, and its JSON."""

from typing import Any

from flask import Flask, Request
from werkzeug.routing import BaseConverter, IntegerConverter, MapAdapter

from webhook_api.web.json_provider import CompactJSON


class _AsciiInteger(IntegerConverter):
    """A number in a path. Werkzeug's own accepts the digits of every script."""

    regex = "[0-9]+"


class _RestOfPath(BaseConverter):
    """The rest of a path, whatever characters it has."""

    regex = "(?s:.+)"
    part_isolating = False


class Application(Flask):
    """Has no sessions, for it has no secret key, and takes a path with one slash more."""

    json_provider_class = CompactJSON

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.url_map.converters["int"] = _AsciiInteger
        self.url_map.converters["id"] = _RestOfPath

    def create_url_adapter(self, request: Request | None) -> MapAdapter | None:
        """Return what finds the route of a request, or builds URLs without a request.

        One slash more at the end of a path is the same route; it goes from `request.path`, but
        stays in the WSGI environment. One that was sent as %2F is part of an id.
        """
        adapter = super().create_url_adapter(request)
        if request is None or adapter is None:
            return adapter
        adapter.websocket = False  # an upgrade that is asked for is ignored (RFC 9110, 7.8)
        if adapter.path_info.endswith("/"):
            sent, _, _ = request.environ.get("RAW_URI", request.path).partition("?")
            if sent.endswith("/"):
                adapter.path_info = adapter.path_info[:-1] or "/"
                request.path = "/" + adapter.path_info.lstrip("/")
        return adapter
