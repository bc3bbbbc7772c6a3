"""Who may read: if READ_TOKEN is set, only clients that send it (RFC 6750)."""

import hmac
from hashlib import sha256

from flask import Flask, current_app, request
from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import Unauthorized

from webhook_api.config import Config

# Two words: a realm must be quoted (RFC 9110, 11.5), and Werkzeug does not quote a single word.
_REALM = {"realm": "Webhook API"}
CHALLENGE = WWWAuthenticate("bearer", dict(_REALM))  # for clients that sent no token
_INVALID = WWWAuthenticate("bearer", {**_REALM, "error": "invalid_token"})  # RFC 6750, 3
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
        if request.url_rule is None or request.blueprint in _OPEN:
            return
        scheme, _, supplied = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            needed = "a token is needed: Authorization: Bearer TOKEN"
            raise Unauthorized(needed, www_authenticate=CHALLENGE)
        if not is_read_token(read_token, supplied.strip(" ")):
            raise Unauthorized("invalid token", www_authenticate=_INVALID)


def current_read_token() -> str:
    """Return the token that readers of the current application need; empty: they need none."""
    settings: Config = current_app.config["SETTINGS"]
    return settings.read_token


def is_read_token(read_token: str, supplied: str) -> bool:
    """Return whether `supplied` is the token, in a time that tells nothing about the token.

    Digests are compared: for texts of different lengths the time would tell the length.
    """
    digests = (sha256(text.encode(errors="replace")).digest() for text in (read_token, supplied))
    return hmac.compare_digest(*digests)
