"""How a request ended: the route fills in what became of a delivery (`g.outcome`), and the log line
and the metrics read it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Result(StrEnum):
    """How a delivery ended; the values of the metric's and the log's `result`."""

    CREATED = "created"
    DUPLICATE = "duplicate"
    DEAD_LETTER = "dead_letter"  # a provider's, kept aside
    EMPTY = "empty"  # a provider's, without a message to store
    INVALID_SIGNATURE = "invalid_signature"
    VALIDATION_ERROR = "validation_error"
    TOO_LARGE = "too_large"
    INCOMPLETE = "incomplete"
    MALFORMED = "malformed"
    METHOD_NOT_ALLOWED = "method_not_allowed"  # no delivery: GET, OPTIONS and so on
    UNAVAILABLE = "unavailable"
    ERROR = "error"


class SignedBy(StrEnum):
    """Which secret a delivery is signed with; the values of the metric's `key`."""

    CURRENT = "current"  # WEBHOOK_SECRET, or the first of a provider's
    PREVIOUS = "previous"  # WEBHOOK_SECRET_PREVIOUS, or another of a provider's


class NotServed(StrEnum):
    """Why the server refused a request; the values of the metric's `reason`."""

    NO_MEMORY = "no_room"  # dashboards know this value
    NO_THREAD = "no_thread"
    NO_TURN = "no_turn"  # it waited too long for others
    DEADLINE = "deadline"  # it took too long, as when the disk hangs
    MALFORMED = "malformed"  # or longer than the HTTP server accepts


@dataclass
class DeliveryCounts:
    """What a provider's delivery held, counted when it was stored."""

    provider: str
    messages: Counter[str] = field(default_factory=Counter)  # created, duplicate, dead_letter
    statuses: Counter[str] = field(default_factory=Counter)  # by the kind
    events: Counter[str] = field(default_factory=Counter)  # by the provider's word
    error_codes: Sequence[str] = ()  # of the provider
    conflicts: int = 0
    dead_letters: Sequence[int] = ()  # their numbers
    reason: str = ""  # why there are dead letters


@dataclass
class Outcome:
    """Filled in step by step while a delivery is handled.

    `message_id` stays None until the signature was found right: before that, anybody can have
    written the body, and nothing of it is logged.
    """

    result: Result = Result.ERROR
    message_id: str | None = None
    signed_by: SignedBy | None = None  # None: its signature did not hold
    checked_url: str = ""  # of a delivery whose signature is made with its URL
    conflict: bool = False
    counts: DeliveryCounts | None = None  # of a provider's delivery


@dataclass(slots=True, kw_only=True)
class FinishedRequest:
    """All that is known about a request when its response was made, for the log and the metrics."""

    request_id: str
    environ: Mapping[str, Any]  # of WSGI
    method: str
    path: str
    rule: str | None  # of its route; None if no route matches
    status: int
    started: float  # of time.perf_counter()
    latency_ms: float
    outcome: Outcome | None  # of a delivery
    failure: Exception | None  # why it was answered with 422 or a 5xx, or kept as a dead letter
