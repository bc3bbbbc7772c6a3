"""The results of one run of a load generator."""

import re
from collections.abc import Sequence
from statistics import median
from typing import NamedTuple, Self


class Commits(NamedTuple):
    """What /metrics says about the commits; nothing for a server without metrics."""

    messages: float = 0
    batches: float = 0
    seconds: float = 0
    transactions: float = 0

    @classmethod
    def parse(cls, metrics: str) -> Self:
        """Take them from the text of /metrics."""
        values = dict(re.findall(r"^commit_(\w+) (\S+)$", metrics, re.MULTILINE))
        messages, batches, seconds, transactions = (
            float(values.get(name, 0))
            for name in (
                "batch_messages_sum",
                "batch_messages_count",
                "duration_seconds_sum",
                "duration_seconds_count",
            )
        )
        return cls(messages, batches, seconds, transactions)

    def since(self, before: Self) -> Self:
        return type(self)(*(now - then for now, then in zip(self, before, strict=True)))

    @property
    def batch(self) -> float | None:
        """Return how many messages shared a commit."""
        return self.messages / self.batches if self.batches else None

    @property
    def milliseconds(self) -> float | None:
        """Return how long a transaction took, its fsync included."""
        return self.seconds / self.transactions * 1000 if self.transactions else None


class Measured(NamedTuple):
    """One run of wrk."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    refused: int  # answers that were not 2xx or 3xx
    broken: int  # connections that failed, and requests without an answer for 2 s
    cpu_s: float  # of all the server's processes
    switches: int  # from one thread to another, in them
    commits: Commits

    @property
    def per_second(self) -> float:
        return (self.requests - self.refused) / self.seconds

    @property
    def cpu_us(self) -> float:
        return self.cpu_s / self.requests * 1e6

    @property
    def switches_each(self) -> float:
        return self.switches / self.requests


def middle(values: Sequence[float]) -> float:
    """Return the median, which one bad round does not move."""
    return float(median(values))
