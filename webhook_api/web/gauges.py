"""Metrics that are read from the database at each scrape."""

import sqlite3
from collections.abc import Iterator
from contextlib import suppress

from prometheus_client.core import CounterMetricFamily as Counter
from prometheus_client.core import GaugeMetricFamily as Gauge
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from webhook_api.errors import RequestRefused, SchemaError, Unavailable
from webhook_api.intake.group_commit import GroupCommit
from webhook_api.maintenance.backup import last_backup
from webhook_api.store.counting import stored_totals
from webhook_api.store.database import Database
from webhook_api.store.files import LAST_DRILL, STANDBY, beside, time_of
from webhook_api.store.positions import Consumer, Lag, lag_of, list_consumers
from webhook_api.store.schema import check_schema


class StoredData(Collector):
    """How much is stored, and how much space it takes."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def collect(self) -> Iterator[Metric]:
        for name, size in self._database.sizes().items():
            yield Gauge(f"{name}_size_bytes", f"Bytes that the {name} file takes.", size)
        try:
            free = self._database.free_bytes()
        except Unavailable:  # the folder is gone
            free = 0
        yield Gauge("disk_free_bytes", "Bytes free on the disk that the database is on.", free)
        if moment := last_backup(self._database):
            text = "The moment of the last backup; absent if there never was one."
            yield Gauge("last_backup_timestamp_seconds", text, moment)
        path = self._database.path
        replicated = self._database.leaves_checkpoints and not self._database.is_standby
        if (moment := time_of(beside(path, LAST_DRILL))) or replicated:
            text = "The moment of the last drill that went well; 0 for a replica without one."
            yield Gauge("last_drill_timestamp_seconds", text, moment or 0)
        if moment := time_of(beside(path, STANDBY)):
            text = "When the copy that a standby shows was the newest; absent elsewhere."
            yield Gauge("standby_copy_timestamp_seconds", text, moment)
        if totals := stored_totals(self._database):
            yield Gauge("stored_messages", "Messages stored.", totals.messages)
            yield Gauge("stored_senders", "Senders of the stored messages.", totals.senders)
            text = "Messages that are not in the search index yet, at most: a search reads each."
            yield Gauge("unindexed_messages", text, max(0, totals.newest - totals.indexed))
            text = "Deliveries kept aside: signed, but not stored as messages."
            yield Gauge("dead_letters", text, totals.dead_letters)
            text = "Messages ever removed from this file."
            yield Counter("removed_messages", text, value=totals.removed)


class ConsumerLag(Collector):
    """How far each named consumer is behind."""

    def __init__(self, database: Database, *, retention_days: int) -> None:
        self._database = database
        self._retention_s = retention_days * 86400

    def collect(self) -> Iterator[Metric]:
        labels = ["consumer"]
        behind = Gauge("consumer_behind_messages", "Messages that it has not read.", labels=labels)
        oldest = Gauge("consumer_oldest_unread_seconds", "Age of the first of them.", labels=labels)
        used = Gauge(
            "consumer_retention_used_ratio",
            "How much of the time until retention removes that message is over.",
            labels=labels,
        )
        missed = Counter(
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
        is_ready = False
        with suppress(RequestRefused, SchemaError, sqlite3.Error):
            with self._database.reader() as db:
                check_schema(db)
            self._commits.check(self._deadline_s)
            is_ready = True
        yield Gauge("webhook_ready", "1 if a message could be stored now, else 0.", is_ready)
