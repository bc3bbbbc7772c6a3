"""Who is told what a group commit does: the metrics."""

from typing import Protocol


class CommitObserver(Protocol):
    """Is told what a `GroupCommit` does."""

    def waiting(self, deliveries: int) -> None:
        """`deliveries` of this process now wait for the disk."""

    def committed(self, messages: int, seconds: float) -> None:
        """`messages` were put on disk together, in so many `seconds`."""
