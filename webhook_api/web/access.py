"""Who may read: with READ_TOKEN set, whoever sends that token (RFC 6750)."""

import hmac
from hashlib import sha256

from flask import Flask, request
from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import Unauthorized

# With its space, since Werkzeug quotes no plain word, and RFC 9110, 11.5, wants a realm in quotes.
REALM = "Webhook API"
CHALLENGE = WWWAuthenticate("bearer", {"realm": REALM})  # what is asked of who sent nothing
# The blueprints that need no token here: `inbox` asks for it in a form. A route of any other one
# does, and so a new one, too.
_OPEN = frozenset({"webhook", "providers", "health", "docs", "root", "inbox"})


def init_access(app: Flask, read_token: str) -> None:
    """Refuse the reads of `app` without the token; with an empty one, nothing is refused."""
    if not read_token:
        return

    @app.before_request
    def check_token() -> None:
        # A path or a method that does not exist is 404 or 405 for everybody.
        if request.url_rule is not None and request.blueprint not in _OPEN:
            require_token(read_token, request.headers.get("Authorization"))


def require_token(read_token: str, authorization: str | None) -> None:
    """Return when the header `Authorization` has the token.

    Raises:
        Unauthorized: 401, with what RFC 6750, 3, wants in `WWW-Authenticate`.
    """
    scheme, _, supplied = (authorization or "").partition(" ")
    if scheme.lower() != "bearer":
        raise _unauthorized("a token is needed: Authorization: Bearer TOKEN")
    if not is_read_token(read_token, supplied.strip(" ")):
        raise _unauthorized("invalid token", error="invalid_token")


def is_read_token(read_token: str, supplied: str) -> bool:
    """Whether `supplied` is the token. The time that this takes tells nothing about it.

    Digests are compared, since comparing texts of different lengths tells the length.
    """
    return hmac.compare_digest(_digest(read_token), _digest(supplied))


def _digest(text: str) -> bytes:
    return sha256(text.encode(errors="replace")).digest()


def _unauthorized(detail: str, **parameters: str) -> Unauthorized:
    challenge = WWWAuthenticate("bearer", {"realm": REALM, **parameters})
    return Unauthorized(detail, www_authenticate=challenge)
