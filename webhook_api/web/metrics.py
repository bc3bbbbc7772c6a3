"""The counters and GET /metrics. `gauges.py` has what a scrape reads from the database.

Under Gunicorn the counts are in memory-mapped files (`PROMETHEUS_MULTIPROC_DIR`, set by
gunicorn.conf.py), and a scrape adds up those of all workers. Otherwise they are in memory.
"""

from collections.abc import Collection, Iterable
from functools import cache, partial
from itertools import product
from pathlib import Path
from types import SimpleNamespace

from flask import Flask
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    values,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector
from prometheus_flask_exporter import PrometheusMetrics

from webhook_api.errors import RequestRefused
from webhook_api.models import OWN
from webhook_api.outcome import DeliveryCounts, FinishedRequest, NotServed, Result, SignedBy
from webhook_api.providers import EVENTS
from webhook_api.providers.delivery import OTHER, STATUSES
from webhook_api.reading.long_reads import Refusal
from webhook_api.store.database import Database
from webhook_api.web.gauges import StoredData

UNMATCHED = "<unmatched>"
OTHER_METHOD = "OTHER"
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
# What everybody looks for first (spec 5); the name of a family is without `_total`.
_FIRST = {"http_requests": 0, "webhook_requests": 1}
_LATENCY_MS = (1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000)
_COMMIT_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
_BATCH_MESSAGES = (1, 2, 4, 8, 16, 32, 64)


class _CountsOfWorkers(MultiProcessCollector):
    """The sums of all workers, without those that have just begun.

    A worker makes its files empty and then fills them; the library's own `collect` fails on an
    empty file (prometheus_client 0.26.0).
    """

    def collect(self) -> Iterable[Metric]:
        """Return the metrics in the files that hold something."""
        files = [file for file in Path(self._path).glob("*.db") if _size_bytes(file)]
        metrics: Iterable[Metric] = self.merge(files)  # type: ignore[no-untyped-call]
        return metrics


def _size_bytes(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:  # the gauges of a worker that has ended
        return 0


class Exporter(PrometheusMetrics):  # type: ignore[misc]
    """The exporter's endpoint, with our registry.

    `generate_metrics` is replaced: with several workers the exporter's own responds 500 to
    `?name[]=`, since it registers a collector where that is not possible
    (prometheus-flask-exporter 0.23.2).
    """

    at_scrape: tuple[Collector, ...]  # for metrics that are not in the files of the workers

    def generate_metrics(
        self, accept_header: str | None = None, names: list[str] | None = None
    ) -> tuple[str, str]:
        """Return the metrics as text, only those in `names` if given, and its content type."""
        registry = self.registry
        if values.ValueClass is not values.MutexValue:
            registry = CollectorRegistry(support_collectors_without_names=True)
            registry.register(_CountsOfWorkers(None))  # type: ignore[no-untyped-call]
            for collector in self.at_scrape:
                registry.register(collector)
        if names:
            registry = registry.restricted_registry(names)
        encode, content_type = choose_encoder(accept_header or "")
        found = sorted(registry.collect(), key=lambda metric: _FIRST.get(metric.name, len(_FIRST)))
        return encode(SimpleNamespace(collect=lambda: found)).decode(), content_type


class Metrics:
    """All metrics of one application, in their own registry."""

    def __init__(self, database: Database) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry(support_collectors_without_names=True)
        self.stored = StoredData(database)
        self.registry.register(self.stored)
        counter = partial(Counter, registry=self.registry)
        histogram = partial(Histogram, registry=self.registry)
        gauge = partial(Gauge, registry=self.registry, multiprocess_mode="livesum")
        by_provider = ["provider", "result"]
        self.requests = counter(
            "http_requests_total", "HTTP requests answered.", ["method", "path", "status"]
        )
        self.latency = histogram(
            "request_latency_ms",
            "Milliseconds from a request's arrival in the application to its answer.",
            ["path"],
            buckets=_LATENCY_MS,
        )
        self.deliveries = counter(
            "webhook_requests_total", "Deliveries, by what became of them.", ["result"]
        )
        self.signatures = counter(
            "webhook_signatures_total",
            "Deliveries with a right signature, by the secret that it was made with.",
            ["provider", "key"],
        )
        self.conflicts = counter(
            "webhook_conflicts_total", "Duplicates whose content differs from the stored message."
        )
        self.refused_reads = counter(
            "reads_refused_total",
            "Reads ended early: no turn in time, too long, or the client left.",
            ["reason"],
        )
        self.refused_requests = counter(
            "requests_refused_total",
            "Requests that the HTTP server refused, before any view saw them.",
            ["reason"],
        )
        self.provider_requests = counter(
            "provider_requests_total",
            "Deliveries of each provider, by what became of them.",
            by_provider,
        )
        self.provider_messages = counter(
            "provider_messages_total", "Messages in them, by what became of each.", by_provider
        )
        self.provider_events = counter(
            "provider_events_total",
            "What in them is neither a message nor a status, by the provider's word for it.",
            ["provider", "event"],
        )
        self.provider_statuses = counter(
            "provider_statuses_total",
            "Statuses of sent messages in them, which are not stored.",
            ["provider", "kind"],
        )
        self.pending = gauge("webhook_pending_deliveries", "Deliveries waiting to be on disk.")
        self.feed_waiting = gauge("feed_waiting", "Requests waiting for messages.")
        self.commit_seconds = histogram(
            "commit_duration_seconds",
            "Seconds that a transaction took, its fsync included.",
            buckets=_COMMIT_SECONDS,
        )
        self.replica_ack_seconds = histogram(
            "replica_ack_seconds",
            "Seconds from a commit until the replica has it.",
            buckets=_COMMIT_SECONDS,
        )
        self.batch_messages = histogram(
            "commit_batch_messages", "Messages stored by one transaction.", buckets=_BATCH_MESSAGES
        )

        # Looked up once for each set of labels: `labels` takes a lock and makes texts.
        self._request = cache(self.requests.labels)
        self._latency = cache(self.latency.labels)
        self._delivery = cache(self.deliveries.labels)
        self._signature = cache(self.signatures.labels)

    def waiting(self, deliveries: int) -> None:
        """See `intake.group_commit.CommitObserver`."""
        self.pending.set(deliveries)

    def committed(self, messages: int, seconds: float) -> None:
        """See `intake.group_commit.CommitObserver`."""
        self.commit_seconds.observe(seconds)
        if messages:
            self.batch_messages.observe(messages)

    def read_refused(self, refusal: Refusal) -> None:
        """Count a read that ended early."""
        self.refused_reads.labels(refusal).inc()

    def count(self, request: FinishedRequest) -> None:
        """Count a request and its response."""
        path = request.rule or UNMATCHED
        method = request.method if request.method in _METHODS else OTHER_METHOD
        self._request(method, path, request.status).inc()
        self._latency(path).observe(request.latency_ms)
        if isinstance(request.failure, RequestRefused) and request.failure.reason:
            self.refused_requests.labels(request.failure.reason).inc()
        if outcome := request.outcome:
            self._delivery(outcome.result).inc()
            if outcome.signed_by:
                provider = outcome.counts.provider if outcome.counts else OWN
                self._signature(provider, outcome.signed_by).inc()
            if outcome.conflict:
                self.conflicts.inc(outcome.counts.conflicts if outcome.counts else 1)
            if outcome.counts:
                self._count_contents(outcome.counts, outcome.result)

    def _count_contents(self, counts: DeliveryCounts, result: Result) -> None:
        self.provider_requests.labels(counts.provider, result).inc()
        for one, count in counts.messages.items():
            self.provider_messages.labels(counts.provider, one).inc(count)
        for event, count in counts.events.items():
            self.provider_events.labels(counts.provider, _label(counts.provider, event)).inc(count)
        for kind, count in counts.statuses.items():
            self.provider_statuses.labels(counts.provider, kind).inc(count)

    def preset(self, app: Flask, providers: Collection[str] = ()) -> None:
        """Create every series that is known from the start; the first scrape shows it as 0."""
        _preset(self.deliveries, Result)
        _preset(self.signatures, (OWN, *providers), SignedBy)
        _preset(self.refused_reads, Refusal)
        _preset(self.refused_requests, NotServed)
        _preset(self.provider_requests, providers, Result)
        of_messages = (Result.CREATED, Result.DUPLICATE, Result.DEAD_LETTER)
        _preset(self.provider_messages, providers, of_messages)
        _preset(self.provider_statuses, providers, (*STATUSES, OTHER))
        for provider in providers:
            _preset(self.provider_events, [provider], (*EVENTS[provider], OTHER))
        self.latency.labels(UNMATCHED)
        for rule in app.url_map.iter_rules():
            self.latency.labels(rule.rule)
            for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}:
                for status in (200, 401, 422) if method == "POST" else (200,):
                    self.requests.labels(method, rule.rule, status)


def _preset(metric: Counter, *labels: Iterable[str]) -> None:
    for values_ in product(*labels):
        metric.labels(*values_)


def _label(provider: str, event: str) -> str:
    """Return the label for an event: of the known words only, so that there are few series."""
    known = (one for one in (event, event.partition(".")[0]) if one in EVENTS[provider])
    return next(known, OTHER)


def serve_metrics(app: Flask, metrics: Metrics, *at_scrape: Collector) -> None:
    """Serve /metrics, also with what `at_scrape` collects."""
    exporter = Exporter(None, registry=metrics.registry, export_defaults=False)
    for collector in at_scrape:
        metrics.registry.register(collector)
    exporter.at_scrape = (metrics.stored, *at_scrape)
    exporter.init_app(app)
