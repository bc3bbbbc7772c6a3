"""The counters and GET /metrics. `gauges.py` has what a scrape reads from the database.

Under Gunicorn the counts are in memory-mapped files (`PROMETHEUS_MULTIPROC_DIR`, set by
gunicorn.conf.py), and a scrape adds up those of all workers. Otherwise they are in memory.
"""

from collections.abc import Iterable
from functools import cache

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
from webhook_api.outcome import DeliveryCounts, NotServed, Result, SignedBy
from webhook_api.providers import EVENTS
from webhook_api.providers.delivery import OTHER, STATUSES
from webhook_api.reading.long_reads import Refusal
from webhook_api.store.database import Database
from webhook_api.web.answered import Answered
from webhook_api.web.gauges import StoredData

UNMATCHED = "<unmatched>"
OTHER_METHOD = "OTHER"
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
# What everybody looks for first (spec 5); the name of a family is without `_total`.
_FIRST = ("http_requests", "webhook_requests")
_LATENCY_MS = (1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000)
_COMMIT_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
_BATCH_MESSAGES = (1, 2, 4, 8, 16, 32, 64)


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
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
            for collector in self.at_scrape:
                registry.register(collector)
        if names:
            registry = registry.restricted_registry(names)
        encode, content_type = choose_encoder(accept_header or "")
        return encode(_Sorted(registry)).decode(), content_type


class _Sorted(Collector):
    """What another collector has, with the metrics of `_FIRST` at its start."""

    def __init__(self, collector: Collector) -> None:
        self._collector = collector

    def collect(self) -> Iterable[Metric]:
        return sorted(self._collector.collect(), key=_place)


def _place(metric: Metric) -> int:
    return _FIRST.index(metric.name) if metric.name in _FIRST else len(_FIRST)


class Metrics:
    """All metrics of one application, in their own registry."""

    def __init__(self, database: Database) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry(support_collectors_without_names=True)
        self.stored = StoredData(database)
        self.registry.register(self.stored)
        self.requests = Counter(
            "http_requests_total",
            "HTTP requests answered.",
            ["method", "path", "status"],
            registry=self.registry,
        )
        self.latency = Histogram(
            "request_latency_ms",
            "Milliseconds from a request's arrival in the application to its answer.",
            ["path"],
            buckets=_LATENCY_MS,
            registry=self.registry,
        )
        self.deliveries = Counter(
            "webhook_requests_total",
            "Deliveries, by what became of them.",
            ["result"],
            registry=self.registry,
        )
        self.signatures = Counter(
            "webhook_signatures_total",
            "Deliveries with a right signature, by the secret that it was made with.",
            ["provider", "key"],
            registry=self.registry,
        )
        self.conflicts = Counter(
            "webhook_conflicts_total",
            "Duplicates whose content differs from the stored message.",
            registry=self.registry,
        )
        self.refused_reads = Counter(
            "reads_refused_total",
            "Reads ended early: no turn in time, too long, or the client left.",
            ["reason"],
            registry=self.registry,
        )
        self.refused_requests = Counter(
            "requests_refused_total",
            "Requests that the HTTP server refused, before any view saw them.",
            ["reason"],
            registry=self.registry,
        )
        self.provider_requests = Counter(
            "provider_requests_total",
            "Deliveries of each provider, by what became of them.",
            ["provider", "result"],
            registry=self.registry,
        )
        self.provider_messages = Counter(
            "provider_messages_total",
            "Messages in them, by what became of each.",
            ["provider", "result"],
            registry=self.registry,
        )
        self.provider_events = Counter(
            "provider_events_total",
            "What in them is neither a message nor a status, by the provider's word for it.",
            ["provider", "event"],
            registry=self.registry,
        )
        self.provider_statuses = Counter(
            "provider_statuses_total",
            "Statuses of sent messages in them, which are not stored.",
            ["provider", "kind"],
            registry=self.registry,
        )
        self.pending = Gauge(
            "webhook_pending_deliveries",
            "Deliveries waiting to be on disk.",
            multiprocess_mode="livesum",
            registry=self.registry,
        )
        self.feed_waiting = Gauge(
            "feed_waiting",
            "Requests waiting for messages.",
            multiprocess_mode="livesum",
            registry=self.registry,
        )
        self.commit_seconds = Histogram(
            "commit_duration_seconds",
            "Seconds that a transaction took, its fsync included.",
            buckets=_COMMIT_SECONDS,
            registry=self.registry,
        )
        self.batch_messages = Histogram(
            "commit_batch_messages",
            "Messages stored by one transaction.",
            buckets=_BATCH_MESSAGES,
            registry=self.registry,
        )

        # Looked up once for each set of labels: `labels` takes a lock and makes texts.
        self._request = cache(self.requests.labels)
        self._latency = cache(self.latency.labels)
        self._delivery = cache(self.deliveries.labels)
        self._signature = cache(self.signatures.labels)

    def waiting(self, deliveries: int) -> None:
        """See `intake.observer.CommitObserver`."""
        self.pending.set(deliveries)

    def committed(self, messages: int, seconds: float) -> None:
        """See `intake.observer.CommitObserver`."""
        self.commit_seconds.observe(seconds)
        if messages:
            self.batch_messages.observe(messages)

    def read_refused(self, refusal: Refusal) -> None:
        """See `reading.long_reads.ReadObserver`."""
        self.refused_reads.labels(refusal).inc()

    def count(self, answered: Answered) -> None:
        """Count a request and its response."""
        path = answered.rule or UNMATCHED
        method = answered.method if answered.method in _METHODS else OTHER_METHOD
        self._request(method, path, answered.status).inc()
        self._latency(path).observe(answered.latency_ms)
        if isinstance(answered.failure, RequestRefused) and answered.failure.reason:
            self.refused_requests.labels(answered.failure.reason).inc()
        if outcome := answered.outcome:
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

    def preset(self, app: Flask, providers: Iterable[str] = ()) -> None:
        """Create every series that is known from the start; the first scrape shows it as 0."""
        for provider in providers:
            self._preset_provider(provider)
        for result in Result:
            self.deliveries.labels(result)
        for secret in SignedBy:
            self.signatures.labels(OWN, secret)
        for refusal in Refusal:
            self.refused_reads.labels(refusal)
        for reason in NotServed:
            self.refused_requests.labels(reason)
        self.latency.labels(UNMATCHED)
        for rule in app.url_map.iter_rules():
            self.latency.labels(rule.rule)
            for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}:
                for status in (200, 401, 422) if method == "POST" else (200,):
                    self.requests.labels(method, rule.rule, status)

    def _preset_provider(self, provider: str) -> None:
        for result in Result:
            self.provider_requests.labels(provider, result)
        for result in (Result.CREATED, Result.DUPLICATE, Result.DEAD_LETTER):
            self.provider_messages.labels(provider, result)
        for event in (*EVENTS[provider], OTHER):
            self.provider_events.labels(provider, event)
        for kind in (*STATUSES, OTHER):
            self.provider_statuses.labels(provider, kind)
        for secret in SignedBy:
            self.signatures.labels(provider, secret)


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
