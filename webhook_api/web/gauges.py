"""Metrics that are read from the database at each scrape."""

import sqlite3
from collections.abc import Iterator
from contextlib import suppress

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from webhook_api.errors import RequestRefused, SchemaError, Unavailable
from webhook_api.intake.group_commit import GroupCommit
from webhook_api.maintenance.backup import last_backup
from webhook_api.maintenance.replica import last_drill, standby_moment
from webhook_api.store.consumers import Consumer, Lag, lag_of, list_consumers
from webhook_api.store.counting import stored_totals
from webhook_api.store.database import Database
from webhook_api.store.schema import check_schema


class StoredData(Collector):
    """How much is stored, and how much space it takes."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def collect(self) -> Iterator[Metric]:
        for name, size in self._database.sizes().items():
            yield GaugeMetricFamily(
                f"{name}_size_bytes", f"Bytes that the {name} file takes.", value=size
            )
        try:
            free = self._database.free_bytes()
        except Unavailable:  # the folder is gone
            free = 0
        yield GaugeMetricFamily(
            "disk_free_bytes", "Bytes free on the disk that the database is on.", value=free
        )
        if moment := last_backup(self._database):
            yield GaugeMetricFamily(
                "last_backup_timestamp_seconds",
                "The moment of the last backup; absent if there never was one.",
                value=moment,
            )
        replicated = self._database.leaves_checkpoints and not self._database.is_standby
        if (moment := last_drill(self._database)) or replicated:
            yield GaugeMetricFamily(
                "last_drill_timestamp_seconds",
                "The moment of the last drill that went well; 0 for a replica without one.",
                value=moment or 0,
            )
        if moment := standby_moment(self._database):
            yield GaugeMetricFamily(
                "standby_copy_timestamp_seconds",
                "When the copy that a standby shows was the newest; absent elsewhere.",
                value=moment,
            )
        if totals := stored_totals(self._database):
            yield GaugeMetricFamily("stored_messages", "Messages stored.", value=totals.messages)
            yield GaugeMetricFamily(
                "stored_senders", "Senders of the stored messages.", value=totals.senders
            )
            yield GaugeMetricFamily(
                "unindexed_messages",
                "Messages that are not in the search index yet, at most: a search reads each.",
                value=max(0, totals.newest - totals.indexed),
            )
            yield GaugeMetricFamily(
                "dead_letters",
                "Deliveries kept aside: signed, but not stored as messages.",
                value=totals.dead_letters,
            )
            yield CounterMetricFamily(
                "removed_messages", "Messages ever removed from this file.", value=totals.removed
            )


class ConsumerLag(Collector):
    """How far each named consumer is behind."""

    def __init__(self, database: Database, *, retention_days: int) -> None:
        self._database = database
        self._retention_s = retention_days * 86400

    def collect(self) -> Iterator[Metric]:
        labels = ["consumer"]
        behind = GaugeMetricFamily(
            "consumer_behind_messages", "Messages that it has not read.", labels=labels
        )
        oldest = GaugeMetricFamily(
            "consumer_oldest_unread_seconds", "Age of the first of them.", labels=labels
        )
        used = GaugeMetricFamily(
            "consumer_retention_used_ratio",
            "How much of the time until retention removes that message is over.",
            labels=labels,
        )
        missed = CounterMetricFamily(
            "consumer_missed_messages",
            "Messages that were removed by age before it had read them.",
            labels=labels,
        )
        for consumer, lag in self._consumers():
            behind.add_metric([consumer.name], lag.behind)
            oldest.add_metric([consumer.name], lag.oldest_unread_seconds)
            ratio = lag.oldest_unread_seconds / self._retention_s if self._retention_s else 0
            used.add_metric([consumer.name], ratio)
            missed.add_metric([consumer.name], consumer.missed)
        yield from (behind, oldest, used, missed)

    def _consumers(self) -> list[tuple[Consumer, Lag]]:
        with suppress(Unavailable, sqlite3.Error), self._database.reader() as db:
            return [(one, lag_of(db, one)) for one in list_consumers(db)]
        return []


class Readiness(Collector):
    """Whether a message could be stored now: the check of /health/ready, made at each scrape.

    So an alert works even if nobody asks /health/ready. With `deadline_s`, a scrape is answered
    within a second even if the disk hangs.
    """

    def __init__(
        self, database: Database, commits: GroupCommit, *, deadline_s: float = 0.8
    ) -> None:
        self._database = database
        self._commits = commits
        self._deadline_s = deadline_s

    def collect(self) -> Iterator[Metric]:
        if self._database.is_standby:  # it never is, and need not be
            return
        yield GaugeMetricFamily(
            "webhook_ready",
            "1 if a message could be stored now, else 0.",
            value=int(self._is_ready()),
        )

    def _is_ready(self) -> bool:
        try:
            with self._database.reader() as db:
                check_schema(db)
            self._commits.check(self._deadline_s)
        except (RequestRefused, SchemaError, sqlite3.Error):
            return False
        return True
