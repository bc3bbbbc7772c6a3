"""The answers to requests that are refused because there are too many of them."""

import re

from webhook_api.outcome import NotServed

_DETAILS = {
    NotServed.NO_MEMORY: b"the server is busy",
    NotServed.NO_THREAD: b"the server is busy",
    NotServed.NO_TURN: b"too many reads are waiting",
}
_BROWSER = re.compile(rb"\r\naccept:[^\r\n]*text/html", re.IGNORECASE)
_PAGE = b"""<!doctype html>
<html lang="en">
<meta name="viewport" content="width=device-width"><meta name="color-scheme" content="light dark">
<title>Not now</title>
<h1>Not now</h1>
<p>Sorry, %b. <a href="">Try again</a> in two seconds.</p>
"""


def _reply(media_type: bytes, body: bytes) -> bytes:
    return (
        b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 2\r\n"
        b"Content-Type: %b\r\nContent-Length: %d\r\n\r\n%b" % (media_type, len(body), body)
    )


BUSY = {
    reason: _reply(b"application/json", b'{"detail":"%b"}\n' % detail)
    for reason, detail in _DETAILS.items()
}
_BUSY_PAGES = {
    reason: _reply(b"text/html; charset=utf-8", _PAGE % detail)
    for reason, detail in _DETAILS.items()
}


def busy_answer(reason: NotServed, request: bytes) -> bytes:
    """Return the answer to a request: a page where a browser asks for one, else JSON."""
    head = request[: request.find(b"\r\n\r\n") + 2]
    return (_BUSY_PAGES if _BROWSER.search(head) else BUSY)[reason]
