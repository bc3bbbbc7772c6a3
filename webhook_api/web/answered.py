"""A request that is answered: what the counts and the line of the log both read."""

from dataclasses import dataclass

from webhook_api.outcome import Outcome


@dataclass(slots=True, kw_only=True)
class Answered:
    """All that is known of a request, once its answer is made."""

    request_id: str
    client_request_id: str  # as the client sent it; empty: it sent none
    method: str
    path: str
    rule: str | None  # of its route; None if no route matches
    status: int
    started: float  # as time.perf_counter() tells it
    latency_ms: float
    outcome: Outcome | None  # of a delivery
    failure: Exception | None  # that it was refused or failed with
