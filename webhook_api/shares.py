"""How many threads each kind of request may have, so that deliveries and probes find one.

Short requests need no thread.
"""

import re
from collections.abc import Mapping
from enum import StrEnum
from math import inf
from typing import NamedTuple, Self
from urllib.parse import unquote_to_bytes

PAGES_AT_ONCE = 2
_SEARCHES_AT_ONCE = 2  # one is running, the other is ready to run
_RESERVED = 4  # for probes and reads, even if the disk hangs
_WAIT_S = 1.0  # for a thread, if others may take long

_SHORT = (b"POST /webhook ", b"GET /health/live ", b"POST /inbox/login ")
_SHORT_BYTES = 32 * 1024  # checking longer bodies takes a while
_URGENT = (b"POST /webhook", b"GET /health", b"GET /metrics")
_STREAM = re.compile(rb"\r\naccept:[^\r\n]*ndjson", re.IGNORECASE)
_SEARCH = re.compile(
    rb"/(?:messages|inbox)\?(?:.*&)?(?:q=[^& ]|to=[^& ]|offset=0*[1-9][0-9]{3}"
    rb"|from=[^& ].*&(?:since|until)=[^& ]|(?:since|until)=[^& ].*&from=[^& ])"
    rb"|/stats\?(?:.*&)?(?:since|until)=[^& ]"
)


class Kind(StrEnum):
    """Kinds of requests that do not share all threads."""

    SHORT = "short"  # computes for a moment and may wait for the disk: it needs no thread
    PAGE = "page"  # and every other request whose cost does not grow with the data
    SEARCH = "search"  # and every other read whose cost grows with the data
    STREAM = "stream"


class Share(NamedTuple):
    """How many threads requests of one kind may have, and how long one may wait for a thread."""

    threads: int
    wait_s: float = inf


class Shares(NamedTuple):
    """How many of each may run at once."""

    long_reads: int  # reads whose cost grows with the data, and streams
    reads: int  # long reads and all others
    deliveries: int  # deliveries that wait for the disk

    @classmethod
    def of(cls, threads: int) -> Self:
        """Divide `threads`, 2 or more. If there are very few, some are counted twice."""
        long_reads = max(1, threads // 4)
        deliveries = max(1, threads - long_reads - _RESERVED)
        reads = max(1, min(long_reads + PAGES_AT_ONCE, threads - deliveries - 1))
        return cls(long_reads, reads, deliveries)

    @property
    def streams(self) -> int:
        """How many of the long reads may be streams."""
        return max(1, self.long_reads * 3 // 4)

    @property
    def by_kind(self) -> Mapping[Kind, Share]:
        """The kinds of requests that may have only some of the threads."""
        return {
            Kind.PAGE: Share(PAGES_AT_ONCE),
            Kind.SEARCH: Share(_SEARCHES_AT_ONCE, _WAIT_S),
            Kind.STREAM: Share(self.streams, _WAIT_S),
        }


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
    return Kind.SEARCH if _SEARCH.search(unquote_to_bytes(line)) else Kind.PAGE
