"""An answered request, as the metrics and the log line need it."""

from dataclasses import dataclass

from webhook_api.outcome import Outcome


@dataclass(slots=True, kw_only=True)
class Answered:
    """All that is known about a request when its response was made."""

    request_id: str
    client_request_id: str  # as the client sent it; empty: it sent none
    client: str  # its address, or that of the last proxy
    forwarded_for: str  # what the proxies say of it
    method: str
    path: str
    rule: str | None  # of its route; None if no route matches
    status: int
    started: float  # of time.perf_counter()
    latency_ms: float
    outcome: Outcome | None  # of a delivery
    failure: Exception | None  # why it was answered with 422 or a 5xx, or kept as a dead letter
