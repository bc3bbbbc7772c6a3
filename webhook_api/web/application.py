"""The Flask application: its routes, and its JSON."""

import json
from typing import TYPE_CHECKING, Any

from flask import Flask, Request, Response
from flask.json.provider import JSONProvider
from pydantic_core import to_json
from werkzeug.datastructures import Headers
from werkzeug.routing import BaseConverter, IntegerConverter, MapAdapter

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment


class _AsciiInteger(IntegerConverter):
    """A number in a path. Werkzeug's own accepts the digits of every script."""

    regex = "[0-9]+"


class _RestOfPath(BaseConverter):
    """The rest of a path, whatever characters it has."""

    regex = "(?s:.+)"
    part_isolating = False


class JSONResponse(Response):
    """A response without a Location, which alone needs a copy of all headers."""

    def get_wsgi_headers(self, environ: "WSGIEnvironment") -> Headers:
        return self.headers


class CompactJSON(JSONProvider):
    """JSON in UTF-8 without escapes, by Pydantic's library, which is the fastest here.

    A page of emoji is a third as long as with escapes.
    """

    def dumps(self, obj: Any, **_settings: Any) -> str:
        return to_json(obj).decode()

    def loads(self, s: str | bytes, **settings: Any) -> Any:
        return json.loads(s, **settings)

    def response(self, *args: Any, **kwargs: Any) -> Response:
        body = to_json(self._prepare_response_obj(args, kwargs)) + b"\n"
        return JSONResponse(body, content_type="application/json")


class Application(Flask):
    """Takes a path with one slash more."""

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
