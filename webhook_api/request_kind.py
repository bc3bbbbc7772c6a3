"""Guesses the kind of a request from its bytes, before the application sees it."""

import re
from urllib.parse import unquote_to_bytes

from webhook_api.shares import Kind

_SHORT = (b"POST /webhook ", b"GET /health/live ", b"POST /inbox/login ")
_SHORT_BYTES = 32 * 1024  # checking longer bodies takes a while
_URGENT = (b"POST /webhook", b"GET /health", b"GET /metrics")
_STREAM = re.compile(rb"\r\naccept:[^\r\n]*ndjson", re.IGNORECASE)
_LONG_READ = re.compile(
    rb"/(?:messages|inbox)\?(?:.*&)?(?:q=[^& ]|to=[^& ]|offset=0*[1-9][0-9]{3}"
    rb"|from=[^& ].*&(?:since|until)=[^& ]|(?:since|until)=[^& ].*&from=[^& ])"
    rb"|/stats\?(?:.*&)?(?:since|until)=[^& ]"
)


def kind_of(request: bytes) -> Kind | None:
    """Return the kind of a request, from its bytes; None: it may have any thread.

    A wrong guess does no harm: the application itself decides which read waits for its turn,
    but then a thread waits.
    """
    if request.startswith(_SHORT) and len(request) <= _SHORT_BYTES:
        return Kind.SHORT
    if request.startswith(_URGENT):
        return None
    head = request[: request.find(b"\r\n\r\n") + 2]
    if _STREAM.search(head):
        return Kind.STREAM
    line, _, _ = head.partition(b"\r\n")
    return Kind.LONG_READ if _LONG_READ.search(unquote_to_bytes(line)) else Kind.PAGE
