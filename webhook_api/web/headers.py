"""Headers that every reply carries, so that a browser does nothing with it that is not meant."""

from werkzeug.datastructures import Headers

# Source: OWASP, "HTTP Security Response Headers Cheat Sheet".
_HEADERS = {
    # No reply is a page, but for /docs, which has a policy of its own.
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    # Replies hold phone numbers, or what is true at this moment only.
    "Cache-Control": "no-store",
}
_LOWER_NAMES = [(name.lower(), name, value) for name, value in _HEADERS.items()]


def set_headers(headers: Headers) -> None:
    """Set the security headers of a reply; a view's own ones stay."""
    # Four calls of `setdefault` would take a tenth of the time of a request.
    present = {name.lower() for name, _value in headers}
    for lower_name, name, value in _LOWER_NAMES:
        if lower_name not in present:
            headers.add(name, value)
