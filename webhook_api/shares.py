"""Who may have how many of a process's threads, so that deliveries and probes always find one."""

from typing import NamedTuple, Self

PAGES_AT_ONCE = 2
_RESERVED = 4  # for probes and reads, whatever the disk does


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
