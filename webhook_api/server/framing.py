"""Finds the end of a request that is arriving, from its framing alone (RFC 9112, 6)."""

import re
from collections.abc import Mapping
from enum import Enum, auto
from urllib.parse import unquote

_MAX_FRAMING_BYTES = 64 * 1024  # of the head, and of all lines around the chunks of a body
_MAX_CHUNK_LINE_BYTES = 4096
_CONTENT_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]+)[ \t]*\r\n", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:[^\r]*chunked", re.IGNORECASE)
_EXPECTS = re.compile(rb"\r\nexpect:[ \t]*100-continue[ \t]*\r\n", re.IGNORECASE)
_PATH = re.compile(rb"(?:[a-z][a-z0-9+.-]*://[^/?# ]*)?(/[^?# ]*)", re.IGNORECASE)
_CHUNK_LINE = re.compile(rb"([0-9a-f]{1,15})[ \t]*(?:;[^\r\n]*)?\r\n", re.IGNORECASE)


def _path(request_line: bytes) -> str:
    """Return the path that a request line names in any of its forms (RFC 9112, 3.2)."""
    _, _, target = request_line.partition(b" ")
    found = _PATH.match(target)
    return unquote(found[1].decode("latin-1")) if found else ""


class Arrival(Enum):
    """What to do with a request that is arriving."""

    WAIT = auto()
    WHOLE = auto()  # Answer it: it is complete, up to `Incoming.end`.
    ENOUGH = auto()  # Answer it without the rest, which cannot change the answer.


class Incoming:
    """One request that is arriving.

    This only finds where the request ends. The parser checks whether it is valid; if the parser
    finds another end, the connection is closed after the answer.
    """

    __slots__ = (
        "_body_bytes", "_chunked", "_framing_bytes", "_max_body_bytes", "_seen", "end",
        "expects_continue",
    )  # fmt: skip

    def __init__(self, body_bytes: Mapping[str, int], other_body_bytes: int) -> None:
        """Allow a body the bytes that `body_bytes` has for its path, else `other_body_bytes`."""
        self.end = 0  # of the head, then of the body, or of the chunks so far
        self.expects_continue = False  # the client waits for "100 Continue" to send its body
        self._body_bytes = body_bytes
        self._max_body_bytes = other_body_bytes
        self._framing_bytes = 0  # bytes before `end` that are not part of the body
        self._chunked: bool | None = None  # None: the head is not complete
        self._seen = 0  # the head does not end before this

    def judge(self, inbox: bytearray) -> Arrival:
        """Return what to do, now that `inbox` holds what has arrived."""
        if self._chunked is None:
            head_end = inbox.find(b"\r\n\r\n", self._seen)
            if head_end < 0:
                self._seen = max(0, len(inbox) - len(b"\r\n\r"))
                return Arrival.WAIT if len(inbox) <= _MAX_FRAMING_BYTES else Arrival.ENOUGH
            self._chunked = False
            if not self._read_head(bytes(inbox[: head_end + len(b"\r\n")])):
                return Arrival.ENOUGH
        if self._chunked:
            return self._judge_chunks(inbox)
        return Arrival.WHOLE if len(inbox) >= self.end else Arrival.WAIT

    def _read_head(self, head: bytes) -> bool:
        """Read from `head` how the body is framed; return False if the body is too long."""
        self.end = self._framing_bytes = len(head) + len(b"\r\n")
        request_line, _, _ = head.lstrip().partition(b"\r\n")
        self._max_body_bytes = self._body_bytes.get(_path(request_line), self._max_body_bytes)
        self._chunked = bool(_CHUNKED.search(head))
        announced = _CONTENT_LENGTH.search(head)
        length = int(announced[1].lstrip(b"0")[:18] or b"0") if announced else 0
        if length > self._max_body_bytes:
            return False
        self.end += length
        old = request_line.endswith(b"HTTP/1.0")
        self.expects_continue = not old and bool(_EXPECTS.search(head))
        return True

    def _judge_chunks(self, inbox: bytearray) -> Arrival:
        while self.end < len(inbox):
            line_end = inbox.find(b"\n", self.end, self.end + _MAX_CHUNK_LINE_BYTES) + 1
            if not line_end:
                if len(inbox) - self.end >= _MAX_CHUNK_LINE_BYTES:
                    return Arrival.ENOUGH
                break
            chunk = _CHUNK_LINE.fullmatch(bytes(inbox[self.end : line_end]))
            if chunk is None:
                return Arrival.ENOUGH
            size = int(chunk[1], 16)
            if size == 0:
                return self._judge_trailer(inbox, line_end)
            self._framing_bytes += line_end - self.end + len(b"\r\n")
            self.end = line_end + size + len(b"\r\n")
        return self._if_worth_waiting(inbox)

    def _judge_trailer(self, inbox: bytearray, start: int) -> Arrival:
        if inbox.startswith(b"\r\n", start):
            self.end = start + len(b"\r\n")
            return Arrival.WHOLE
        trailer_end = inbox.find(b"\r\n\r\n", start)
        if trailer_end < 0:
            short = len(inbox) - start <= _MAX_FRAMING_BYTES
            return Arrival.WAIT if short else Arrival.ENOUGH
        self.end = trailer_end + len(b"\r\n\r\n")
        return Arrival.WHOLE

    def _if_worth_waiting(self, inbox: bytearray) -> Arrival:
        if len(inbox) - self._framing_bytes > self._max_body_bytes:
            return Arrival.ENOUGH
        return Arrival.WAIT if self._framing_bytes <= _MAX_FRAMING_BYTES else Arrival.ENOUGH
