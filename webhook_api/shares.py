"""How many threads each kind of request may have, so that deliveries and probes find one.

Short requests need no thread.
"""

from collections.abc import Mapping
from enum import StrEnum
from math import inf
from typing import NamedTuple, Self

PAGES_AT_ONCE = 2
_LONG_READS_AT_ONCE = 2  # one is running, the other is ready to run
_RESERVED = 4  # for probes and reads, even if the disk hangs
_WAIT_S = 1.0  # for a thread, if others may take long


class Kind(StrEnum):
    """Kinds of requests that do not share all threads."""

    SHORT = "short"  # computes for a moment and may wait for the disk: it needs no thread
    PAGE = "page"  # and every other request whose cost does not grow with the data
    LONG_READ = "long_read"  # a search, and every other read whose cost grows with the data
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
            Kind.LONG_READ: Share(_LONG_READS_AT_ONCE, _WAIT_S),
            Kind.STREAM: Share(self.streams, _WAIT_S),
        }
