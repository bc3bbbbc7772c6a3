"""Headers that every reply carries, so that a browser does nothing with it that is not meant."""

from flask import Flask, Response

# No reply is a page, but for /docs, which has a policy of its own.
_POLICY = "default-src 'none'; frame-ancestors 'none'"


def init_headers(app: Flask) -> None:
    """Set the security headers of every reply of `app`; a view's own ones stay.

    Source: OWASP, "HTTP Security Response Headers Cheat Sheet".
    """
    app.after_request(_set_headers)


def _set_headers(response: Response) -> Response:
    headers = response.headers
    headers.setdefault("Content-Security-Policy", _POLICY)
    headers.setdefault("X-Content-Type-Options", "nosniff")
    headers.setdefault("Referrer-Policy", "no-referrer")
    # Replies hold phone numbers, or what is true at this moment only.
    headers.setdefault("Cache-Control", "no-store")
    return response
