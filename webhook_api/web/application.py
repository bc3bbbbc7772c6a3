"""The Flask application, without what no route here uses and each request would pay for."""

from collections.abc import Callable
from typing import Any

from flask import Flask, Request
from flask.sessions import NullSession, SessionInterface

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
