"""Who may read: if READ_TOKEN is set, only clients that send it (RFC 6750)."""

import hmac
from hashlib import sha256

from flask import Flask, current_app, request
from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import Unauthorized

from webhook_api.config import Config

# Two words: a realm must be quoted (RFC 9110, 11.5), and Werkzeug does not quote a single word.
REALM = "Webhook API"
CHALLENGE = WWWAuthenticate("bearer", {"realm": REALM})  # for clients that sent no token
# The blueprints that need no token; `inbox` asks for it in a form. All others need it, so a new
# blueprint does as well.
_OPEN = frozenset({"webhook", "providers", "health", "docs", "inbox"})


def init_access(app: Flask, read_token: str) -> None:
    """Refuse reads without the token; if it is empty, refuse nothing."""
    if not read_token:
        return

    @app.before_request
    def check_token() -> None:
        # A wrong path or method is 404 or 405 for everybody.
        if request.url_rule is not None and request.blueprint not in _OPEN:
            require_token(read_token, request.headers.get("Authorization"))


def current_read_token() -> str:
    """Return the token that readers of the current application need; empty: they need none."""
    settings: Config = current_app.config["SETTINGS"]
    return settings.read_token


def require_token(read_token: str, authorization: str | None) -> None:
    """Check that the header `Authorization` has the token.

    Raises:
        Unauthorized: 401, with `WWW-Authenticate` as in RFC 6750, 3.
    """
    scheme, _, supplied = (authorization or "").partition(" ")
    if scheme.lower() != "bearer":
        raise _unauthorized("a token is needed: Authorization: Bearer TOKEN")
    if not is_read_token(read_token, supplied.strip(" ")):
        raise _unauthorized("invalid token", error="invalid_token")


def is_read_token(read_token: str, supplied: str) -> bool:
    """Return whether `supplied` is the token, in a time that tells nothing about the token.

    Digests are compared: for texts of different lengths the time would tell the length.
    """
    digests = (sha256(text.encode(errors="replace")).digest() for text in (read_token, supplied))
    return hmac.compare_digest(*digests)


def _unauthorized(detail: str, **parameters: str) -> Unauthorized:
    challenge = WWWAuthenticate("bearer", {"realm": REALM, **parameters})
    return Unauthorized(detail, www_authenticate=challenge)
