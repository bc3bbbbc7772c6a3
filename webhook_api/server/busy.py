"""The answers to requests that the application never sees, for there are too many of them."""

from webhook_api.outcome import NotServed

_DETAILS = {
    NotServed.NO_ROOM: b"the server is busy",
    NotServed.NO_THREAD: b"the server is busy",
    NotServed.NO_TURN: b"too many reads are waiting",
}


def _reply(detail: bytes) -> bytes:
    body = b'{"detail":"%b"}\n' % detail
    return (
        b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 2\r\n"
        b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    )


BUSY = {reason: _reply(detail) for reason, detail in _DETAILS.items()}
