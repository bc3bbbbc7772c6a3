"""Requests of growing parts, and the CPU time that the only worker of a service spends on them.

They go to every route of a service that asks for a token, and have none; then signed bodies,
because their content is not the provider's own.
"""

import re
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from tests.builders import a_message, an_app, encode, signed
from tests.providers.samples import (
    SETTINGS,
    a_config,
    a_whatsapp,
    from_meta,
    from_standard,
    from_twilio,
    signed_as,
)
from tests.serving import Server, serving
from webhook_api import close_app
from webhook_api.inbox.session import PAUSE_S
from webhook_api.server.worker import MAX_PAUSES

TOKEN = "a-token-for-readers"
ANSWER_S = 60.0  # more than the service lets a client take, and than a busy machine takes
BODY_BYTES = 120_000  # of signed ones
FORM_BYTES = 16_000  # of the form that a stranger may send
LINE_BYTES = 8_000  # a little less than what Gunicorn accepts of a line
CHUNKS_BYTES = 6 * FORM_BYTES  # of a form, each of whose bytes is a chunk
HEAD_BYTES = 64_000  # more than it accepts


class Route(NamedTuple):
    method: str
    path: str


class Shape(NamedTuple):
    """A request with a part that grows: `wire` makes it, for a route and a size.

    If it is not `complete`, nothing more will come, and the client says so to end the wait.
    """

    name: str
    size: int  # the largest
    wire: Callable[[Route, int], bytes]
    complete: bool = True


def grown(size: int, *units: bytes) -> bytes:
    """Return about `size` bytes: each unit again and again, and then the next."""
    return b"".join(unit * (size // len(units) // len(unit) or 1) for unit in units)


def raw(route: Route, *lines: bytes, query: bytes = b"", body: bytes | None = None) -> bytes:
    """Return a request to a route; `query` follows its path, and may be more of the path."""
    head = [b"%b %b%b HTTP/1.1" % (route.method.encode(), route.path.encode(), query)]
    if not any(line.startswith(b"Host:") for line in lines):
        head.append(b"Host: x")
    if body is not None:
        head.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join([*head, b"Connection: close", *lines, b"", body or b""])


# Units without a space; those of a query are tried in forms and cookies as well.
WORDS = [
    b"a", b"&", b"a&", b"a=b&", b"%ff", b"%", b"%00", b"%2b=", b"/", b"/../", b";", b"?", b"#",
    b"[", b"]", b"a[", b"[]=&", b"{", b"(", b"\\", b"..", b"\xff", b"q=a&", b"from=x&",
    b"since=2025-01-15T10:00:00Z&", b"name[]=a&", b"%F0%9F%98%80",
]  # fmt: skip
# Several parts that grow, for what tries to match one of them from each place in another.
SEQUENCES = [
    (b"/inbox?", b"&from=x", b"&"),
    (b"/messages?", b"&since=x", b"&", b"to="),
    (b"&q=", b"&", b"="),
    (b"%ff", b"a&", b"+"),
    (b"?", b"/", b"?a="),
]
PARAMETERS = {
    b"q": [b"a", b"%20", b"%ff", b"%26", b"%F0%9F%98%80", b"a%20"],
    b"from": [b"9", b"+", b"%2b"],
    b"since": [b"9", b"2025-01-15T10:00:00", b".9"],
    b"limit": [b"9", b"0"],
    b"cursor": [b"9", b"A", b"=", b"MTcz"],
    b"above": [b"9"],
    b"next": [b"/inbox", b"?", b"/inbox/messages/1"],
    b"name[]": [b"a", b"&name[]="],
    b"hub.mode": [b"subscribe", b"&hub.verify_token=a"],
}
PATHS = [b"/", b"a", b"a/", b"../", b"./", b"%2f", b"%ff", b"%2e%2e/", b"%", b";", b"1", b".js"]
HEADERS = {
    b"X-Request-ID: ": [b"a", b".", b"\xff", b"a "],
    b"Accept: ": [
        b",", b"a/b,", b"*/*;q=0.1,", b"text/html;a=b;", b";q=", b"application/x-ndjson,", b'"\\',
        b" ", b"\t,", b'a/b;c="d,";',
    ],
    b"Accept-Language: ": [b"en,", b"en-", b"a;q=0.1,"],
    b"Accept-Encoding: ": [b"gzip,", b"gzip;q=0.1,"],
    b"Range: bytes=": [b"0-,", b"0-1,", b"9"],
    b"If-None-Match: ": [b'"a",', b'W/"a",', b'"', b"a,", b"*,", b"\\"],
    b"If-Match: ": [b'"a",', b'"'],
    b"If-Modified-Since: ": [b"Mon, ", b"9", b"01 Jan 2025 ", b"("],
    b"If-Range: ": [b'"', b"9 "],
    b"Authorization: Bearer ": [b"a", b" ", b"\xff"],
    b"Authorization: Basic ": [b"YTph", b"="],
    b"Authorization: Digest ": [b'a="b",', b'"\\', b"a=,"],
    b"Cookie: ": [b"a=b; ", b"a", b"=", b";", b'"', b'a="\\', b'a="\\054', b" ", b"%ff", b"a;b="],
    b"Cookie: inbox_session=": [b"9", b".", b"\xff", b'"'],
    b"Content-Type: a/b;": [b"a=b;", b'a="\\"', b";", b"charset=utf-8;", b"a*0*="],
    b"Content-Type: multipart/form-data; boundary=": [b"-", b"a"],
    b"Content-Length: ": [b"0", b"9", b"1,"],
    b"Transfer-Encoding: ": [b"chunked,", b","],
    b"Expect: ": [b"100-continue,"],
    b"Host: ": [b"a.", b"[", b":", b"@"],
    b"X-Forwarded-For: ": [b"1.1.1.1,"],
    b"X-Forwarded-Proto: ": [b"https,"],
    b"Forwarded: ": [b'for="a";'],
    b"User-Agent: ": [b"a("],
    b"Cache-Control: ": [b"a=1,"],
    b"X-Signature: ": [b"sha256=", b"a"],
    b"X-Hub-Signature-256: ": [b"sha256="],
    b"X-Twilio-Signature: ": [b"a=", b"\xff"],
    b"webhook-signature: ": [b"v1,a ", b" "],
    b"webhook-timestamp: ": [b"9"],
    b"webhook-id: ": [b"a"],
    b"a": [b"a"],  # no value
}  # fmt: skip
MANY_HEADERS = [b"X-A: b", b"Cookie: a=b", b"Accept: a/b", b"a:", b" folded", b"X-A:b\nX-B:c", b"a"]
FORM = b"Content-Type: application/x-www-form-urlencoded"
PARTS = {
    b"multipart/form-data; boundary=x": [
        b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nb\r\n', b"--x\r\n", b"-", b"\r\n",
        b"--x\r\n\r\n", b"\r\n--", b"--x\r\nContent-Disposition: form-data; name=", b"\r",
    ],
    b"application/json": [b"[", b"{}", b'{"a":', b"9", b'"\\u0041', b" "],
}  # fmt: skip


def strangers() -> Iterator[Shape]:
    """Yield the shapes that are sent to every route."""
    for words in [*((word,) for word in WORDS), *SEQUENCES]:
        for size in (LINE_BYTES, HEAD_BYTES) if len(words) > 1 else (LINE_BYTES,):
            yield _query(f"?{words}", size, b"?", words)
    for name, values in PARAMETERS.items():
        for value in values:
            yield _query(f"{name!r}={value!r}", LINE_BYTES, b"?%b=" % name, [value])
    for word in PATHS:
        yield _query(f"path and {word!r}", LINE_BYTES, b"", [word])
        yield _before_path(f"path after {word!r}", b"/", word)
    yield _before_path("host in the line", b"http://", b"a.")
    for field, values in HEADERS.items():
        for value in values:
            shape = _header(f"{field!r}{value!r}", LINE_BYTES, field, value)
            yield shape._replace(complete=not field.startswith((b"Content-L", b"Transfer")))
    for line in MANY_HEADERS:
        yield _header(f"many {line!r}", LINE_BYTES, b"", line + b"\r\n")
        yield _header(f"too many {line!r}", HEAD_BYTES, b"", line + b"\r\n")
    yield _header("a long line", HEAD_BYTES, b"X-A: ", b"a")
    for word in WORDS:
        yield _body(f"form of {word!r}", FORM, word)
    for word in (b"a", b"%ff", b"%", b"+", b"&token="):
        yield _body(f"form, token={word!r}", FORM, word, b"token=")
    for kind, units in PARTS.items():
        for unit in units:
            yield _body(f"{kind!r} of {unit!r}", b"Content-Type: " + kind, unit)
    for chunk in (b"1\r\na\r\n", b"0001\r\na\r\n", b"1;a=b\r\na\r\n", b"3\r\na=&\r\n"):
        yield _chunks(f"chunks {chunk!r}", chunk, b"0\r\n\r\n")
    for chunk in (b"1;", b"0", b"a: b\r\n", b"\r\n", b"0\r\n\r\n"):
        yield _chunks(f"no chunks {chunk!r}", b"", chunk)
    yield Shape("pipelined", 32, lambda route, size: _pipelined(route, size))


def _query(name: str, size: int, begin: bytes, words: Sequence[bytes]) -> Shape:
    return Shape(name, size, lambda route, n: raw(route, query=begin + grown(n, *words)))


def _before_path(name: str, begin: bytes, word: bytes) -> Shape:
    def wire(route: Route, size: int) -> bytes:
        path = begin + grown(size, word)
        return raw(route).replace(b" /", b" %b/" % path, 1)

    return Shape(name, LINE_BYTES, wire)


def _header(name: str, size: int, begin: bytes, value: bytes) -> Shape:
    return Shape(name, size, lambda route, n: raw(route, begin + grown(n, value)))


def _body(name: str, kind: bytes, unit: bytes, begin: bytes = b"") -> Shape:
    return Shape(name, FORM_BYTES, lambda route, n: raw(route, kind, body=begin + grown(n, unit)))


def _chunks(name: str, chunk: bytes, end: bytes) -> Shape:
    def wire(route: Route, size: int) -> bytes:
        body = grown(size, chunk) + end if chunk else grown(size, end)
        return raw(route, FORM, b"Transfer-Encoding: chunked") + body

    return Shape(name, CHUNKS_BYTES, wire, complete=False)


def _pipelined(route: Route, count: int) -> bytes:
    return raw(route).replace(b"Connection: close", b"A: b") * (count - 1) + raw(route)


# What a JSON body may hold: its beginning, the unit that is repeated, its end.
Growing = tuple[bytes, bytes, bytes]
JSON: list[Growing] = [
    (b"[", b"{},", b"{}]"), (b"[", b"[],", b"1]"), (b"[", b"0,", b"0]"), (b"[", b'"",', b"0]"),
    (b"", b"[", b""), (b"", b'{"a":', b""), (b"[", b"[", b"]]"), (b"{", b'"a":0,', b'"a":0}'),
    (b"", b"9", b""), (b"-", b"9", b""), (b"0.", b"9", b""), (b"1e", b"9", b""), (b"", b" ", b"1"),
    (b"[", b"1e999,", b"0]"), (b"[", b"0.1e-9,", b"0]"), (b'"', b"a", b'"'), (b'"', b"\\n", b'"'),
    (b'"', b"\\u0041", b'"'), (b'"', b"\\ud83d", b'"'), (b'"', b"\\ud83d\\ude00", b'"'),
    (b'"', b"\\\\", b'"'), (b'"', b"\\", b""), (b'"', b"\xff", b'"'), (b'"', b"\0", b'"'),
    (b'"', b"\xc3\xa9", b'"'), (b'"', b"\\u0000", b'"'), (b"", b"\n", b""), (b"{", b'"', b"}"),
]  # fmt: skip
VALUES: list[Growing] = [
    (b"[", b"{},", b"{}]"), (b"[", b"0,", b"0]"), (b'{"a":0', b',"a":0', b"}"), (b'"+', b"9", b'"'),
    (b"", b"9", b""), (b'"', b"\\u00e9", b'"'), (b'"', b" (+1) ", b'"'), (b'"', b"meta:", b'"'),
    (b'"2025-01-15T10:00:00.', b"9", b'Z"'), (b'"', b"e\\u0301\\ud83d", b'"'),
]  # fmt: skip
SLOT = encode("\0slot")


def signed_shapes() -> Iterator[tuple[Route, Shape]]:
    """Yield bodies with a growing part, each signed for its route."""
    for provider in ("webhook", "standard", "meta"):
        for growing in JSON:
            yield _json(provider, SLOT, growing)
    for growing in VALUES:
        for field in ("more", "message_id", "from", "ts", "text"):
            yield _json("webhook", encode(a_message(**{field: "\0slot"})), growing)
            yield _json("standard", from_standard(**{field: "\0slot"}), growing)
        for field in ("more", "id", "from", "timestamp", "text", "type", "location"):
            yield _json("meta", from_meta(a_whatsapp() | {field: "\0slot"}), growing)
        for field in ("messages", "statuses", "contacts", "metadata"):
            yield _json("meta", from_meta(**{field: "\0slot"}), growing)
        yield _json("meta", b'{"object":"whatsapp_business_account","entry":%b}' % SLOT, growing)
    yield _signed("meta", "messages", lambda n: from_meta(*_numbered(n // 200)))
    yield _signed("meta", "one message", lambda n: from_meta(*[a_whatsapp()] * (n // 200)))
    yield _signed("webhook", "many names", lambda n: encode(a_message(**_names(n // 12))))
    yield _signed("standard", "many names", lambda n: from_standard(**_names(n // 12)))
    yield _signed("twilio", "many names", lambda n: from_twilio(**_names(min(900, n // 12))))
    for word in WORDS:
        yield _form(b"", word)
    for word in (b"a", b"9", b"%ff", b"%2b", b"+", b"%F0%9F%98%80"):
        yield _form(b"&Body=", word)
        yield _form(b"&From=", word)


def _json(provider: str, valid: bytes, growing: Growing) -> tuple[Route, Shape]:
    """Return a body, with a growing value in its slot."""
    begin, unit, end = growing
    before, _, after = valid.partition(SLOT)
    name = f"{growing} after {before[-30:]!r}"
    return _signed(provider, name, lambda n: before + begin + grown(n, unit) + end + after)


def _form(begin: bytes, word: bytes) -> tuple[Route, Shape]:
    most = 900 * len(word) if b"&" in word else BODY_BYTES  # more fields are never signed
    return _signed(
        "twilio",
        f"{begin!r} {word!r}",
        lambda n: from_twilio() + begin + grown(n * most // BODY_BYTES, word),
    )


def _signed(provider: str, name: str, body: Callable[[int], bytes]) -> tuple[Route, Shape]:
    def wire(route: Route, size: int) -> bytes:
        content = body(size)
        if provider == "webhook":
            headers = signed(content)
        else:
            headers = signed_as(provider, content, now=time.time())
        return raw(route, *(f"{k}: {v}".encode() for k, v in headers.items()), body=content)

    path = "/webhook" if provider == "webhook" else f"/webhook/{provider}"
    return Route("POST", path), Shape(name, BODY_BYTES, wire)


def _numbered(count: int) -> list[dict[str, object]]:
    return [a_whatsapp(number) for number in range(count)]


def _names(count: int) -> dict[str, str]:
    return {f"k{number}": "v" for number in range(count)}


class Meter:
    """Measures the CPU time that the only worker of a service spends on requests."""

    def __init__(self, server: Server) -> None:
        self._port = server.port
        [worker] = server.workers
        self._stat = Path(f"/proc/{worker}/stat")
        # The clock of all threads of a process, as clock_getcpuclockid(3) calculates it.
        self._clock = (~worker << 3) | 2
        self._logins: list[socket.socket] = []
        self._logins_end = 0.0

    def close(self) -> None:
        for login in self._logins:
            login.close()

    def cost(self, route: Route, *requests: tuple[bytes, Shape]) -> int:
        """Return the CPU time of requests, each on a connection of its own, in nanoseconds."""
        if route == Route("POST", "/inbox/login"):
            self._fill_logins()
        before = self._spent()
        with ExitStack() as stack:
            clients = [stack.enter_context(self._connection()) for _ in requests]
            try:
                # The server may refuse, and close, before it has read everything.
                for client, (wire, shape) in zip(clients, requests, strict=True):
                    with suppress(ConnectionError):
                        client.sendall(wire)
                        if not shape.complete:
                            client.shutdown(socket.SHUT_WR)
                for client in clients:
                    with suppress(ConnectionError):
                        while client.recv(65_536):
                            pass
            except TimeoutError:
                spent = time.clock_gettime_ns(self._clock) - before
                names = [f"{shape.name}, {wire[:100]!r}…" for wire, shape in requests]
                raise AssertionError(f"no end after {spent / 1e9:.1f} s of CPU: {names}") from None
        return self._spent() - before

    def _spent(self) -> int:
        """Return the CPU time so far, as soon as the loop sleeps.

        Before, Linux has not yet added what it has used since it woke.
        """
        while self._stat.read_text().rpartition(")")[2].split()[0] != "S":
            time.sleep(0.0002)
        return time.clock_gettime_ns(self._clock)

    def _connection(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self._port), ANSWER_S)

    def _fill_logins(self) -> None:
        """Let wrong tokens wait in all places where they may, so that ours is answered at once."""
        if time.monotonic() < self._logins_end:
            return
        for login in self._logins:
            login.recv(100)
            login.close()
        wrong = raw(Route("POST", "/inbox/login"), FORM, body=b"token=wrong")
        self._logins = [self._connection() for _ in range(MAX_PAUSES)]
        self._logins_end = time.monotonic() + 0.8 * PAUSE_S
        for login in self._logins:
            login.sendall(wrong)
        time.sleep(0.02)


@contextmanager
def metering(folder: Path) -> Iterator[Meter]:
    """Run a service of one worker that asks for a token, and yield its meter."""
    with (
        serving(folder, WEB_CONCURRENCY=1, READ_TOKEN=TOKEN, **SETTINGS) as server,
        closing(Meter(server)) as meter,
    ):
        yield meter


def all_routes(folder: Path) -> list[Route]:
    """Return all routes, and a method that one of them does not have."""
    app = an_app(a_config(folder, READ_TOKEN=TOKEN))
    routes = {
        Route(method, re.sub("<[^>]*>", "1", rule.rule))
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    close_app(app)
    return [*sorted(routes), Route("GET", "/webhook")]
