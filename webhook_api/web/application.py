"""The Flask application, without what no route here uses and each request would pay for."""

from collections.abc import Callable
from typing import Any

from flask import Flask, Request
from flask.sessions import NullSession, SessionInterface
from werkzeug.routing import MapAdapter
from werkzeug.wsgi import get_host

from webhook_api.web.json_provider import CompactJSON


class _NoSessions(SessionInterface):
    """Flask's answer to an application without a secret key, made once and not for each request."""

    _none = NullSession()

    def open_session(self, app: Flask, request: Request) -> NullSession:
        return self._none


class Application(Flask):
    """Has no sessions, and its views and hooks are all synchronous."""

    json_provider_class = CompactJSON
    session_interface = _NoSessions()

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        # Flask's own looks into every hook, each time.
        return func

    def create_url_adapter(self, request: Request | None) -> MapAdapter | None:
        """Return what finds the route of a request, or builds URLs outside of one.

        Flask's own looks at the host twice, and for what a WebSocket would ask.
        """
        if request is None:
            return super().create_url_adapter(None)
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
