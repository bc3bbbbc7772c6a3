"""The Flask application. It leaves out what Flask does for each request and no route here needs."""

from collections.abc import Callable
from typing import Any

from flask import Flask, Request
from flask.sessions import NullSession, SessionInterface
from werkzeug.routing import BaseConverter, IntegerConverter, MapAdapter
from werkzeug.wsgi import get_host

from webhook_api.web.json_provider import CompactJSON


class _NoSessions(SessionInterface):
    """The session of an application without a secret key; Flask would make one each time."""

    _none = NullSession()

    def open_session(self, app: Flask, request: Request) -> NullSession:
        return self._none


class _Number(IntegerConverter):
    """A number in a path. Werkzeug's own accepts the digits of every script."""

    regex = "[0-9]+"


class _Id(BaseConverter):
    """The rest of a path, whatever characters it has."""

    regex = "(?s:.+)"
    part_isolating = False


class Application(Flask):
    """Has no sessions, and its views and hooks are all synchronous."""

    json_provider_class = CompactJSON
    session_interface = _NoSessions()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.url_map.converters["int"] = _Number
        self.url_map.converters["id"] = _Id

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        # Flask's own inspects every hook each time.
        return func

    def create_url_adapter(self, request: Request | None) -> MapAdapter | None:
        """Return what finds the route of a request, or builds URLs without a request.

        Flask's own reads the host twice, and handles WebSockets. One slash more at the end of a
        path is the same route; it goes from `request.path`, but stays in the WSGI environment. One
        that was sent as %2F is part of an id.
        """
        if request is None:
            return super().create_url_adapter(None)
        if request.path.endswith("/"):
            sent, _, _ = request.environ.get("RAW_URI", request.path).partition("?")
            if sent.endswith("/"):
                request.path = request.path[:-1] or "/"
        request.host = get_host(request.environ)
        return self.url_map.bind(
            request.host,
            script_name=request.root_path,
            subdomain="",
            url_scheme=request.scheme,
            default_method=request.method,
            path_info=request.environ["PATH_INFO"] and request.path,
            query_args=request.query_string.decode(errors="replace"),
        )
