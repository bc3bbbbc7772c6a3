"""Security headers, which every response has."""

from werkzeug.datastructures import Headers

# Source: OWASP, "HTTP Security Response Headers Cheat Sheet".
_HEADERS = {
    # For responses that are not pages; /docs and /inbox have their own policy.
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    # Responses hold phone numbers, or are true only now.
    "Cache-Control": "no-store",
}
_LOWER_NAMES = [(name.lower(), name, value) for name, value in _HEADERS.items()]


def set_headers(headers: Headers) -> None:
    """Set the security headers of a response, except those that its view has set."""
    # Four calls of `setdefault` would take a tenth of the time of a request.
    present = {name.lower() for name, _value in headers}
    for lower_name, name, value in _LOWER_NAMES:
        if lower_name not in present:
            headers.add(name, value)
