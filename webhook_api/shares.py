"""Who may have how many of a process's threads, so that deliveries and probes always find one.

And who needs none.
"""

import re
from collections.abc import Mapping
from enum import StrEnum
from math import inf
from typing import NamedTuple, Self
from urllib.parse import unquote_to_bytes

PAGES_AT_ONCE = 2
_SEARCHES_AT_ONCE = 2  # one is in its lane, the other ready for it
_RESERVED = 4  # for probes and reads, whatever the disk does
_WAIT_S = 1.0  # for a thread, where what others do may take long

_SHORT = (b"POST /webhook ", b"GET /health/live ")
_SHORT_BYTES = 32 * 1024  # longer bodies take a while to be looked at
_URGENT = (b"POST ", b"GET /health", b"GET /metrics")
_STREAM = re.compile(rb"\r\naccept:[^\r\n]*ndjson", re.IGNORECASE)
_SEARCH = re.compile(
    rb"/messages\?(?:.*&)?(?:q=[^& ]|offset=0*[1-9][0-9]{3}"
    rb"|from=[^& ].*&since=|since=[^& ].*&from=)"
    rb"|/stats\?(?:.*&)?(?:since|until)=[^& ]"
)


class Kind(StrEnum):
    """What a request is, as far as its share of the threads goes."""

    SHORT = "short"  # computes for a moment, then waits for the disk at most: it needs no thread
    PAGE = "page"
    SEARCH = "search"  # and every other read whose cost grows with the data
    STREAM = "stream"


class Share(NamedTuple):
    """What requests of one kind may have of the threads."""

    threads: int  # at most
    wait_s: float = inf  # for one of them


class Shares(NamedTuple):
    """Threads at most."""

    long_reads: int  # whose cost grows with the data, and streams
    reads: int  # these and all others
    deliveries: int  # that wait for the disk

    @classmethod
    def of(cls, threads: int) -> Self:
        """Share out so many threads, 2 or more. With very few, some of them twice."""
        long_reads = max(1, threads // 4)
        deliveries = max(1, threads - long_reads - _RESERVED)
        reads = max(1, min(long_reads + PAGES_AT_ONCE, threads - deliveries - 1))
        return cls(long_reads, reads, deliveries)

    @property
    def streams(self) -> int:
        """Of the long reads, those that may be streams."""
        return max(1, self.long_reads * 3 // 4)

    @property
    def by_kind(self) -> Mapping[Kind, Share]:
        """The shares of requests that may not have any thread."""
        return {
            Kind.PAGE: Share(PAGES_AT_ONCE),
            Kind.SEARCH: Share(_SEARCHES_AT_ONCE, _WAIT_S),
            Kind.STREAM: Share(self.streams, _WAIT_S),
        }


def kind_of(request: bytes) -> Kind | None:
    """Return what a request, its bytes, is by its looks; None: it may have any thread.

    It need not be right: the application itself decides which read waits for its turn. But then
    a thread does the waiting.
    """
    if request.startswith(_SHORT) and len(request) <= _SHORT_BYTES:
        return Kind.SHORT
    if request.startswith(_URGENT):
        return None
    head = request[: request.find(b"\r\n\r\n") + 2]
    if _STREAM.search(head):
        return Kind.STREAM
    line, _, _ = head.partition(b"\r\n")
    return Kind.SEARCH if _SEARCH.search(unquote_to_bytes(line)) else Kind.PAGE
