"""GET /metrics: stable names, every series from the first scrape on, and bounded labels."""

import re
import time
from pathlib import Path

import pytest
from flask import Flask
from prometheus_client.parser import text_string_to_metric_families

from tests.builders import a_message, samples
from tests.conftest import Api
from tests.serving import wait_until
from webhook_api.outcome import Result
from webhook_api.services import services_of
from webhook_api.web.gauges import Readiness
from webhook_api.web.metrics import OTHER_METHOD, UNMATCHED

TYPES = {
    "counter": [
        "http_requests_total", "webhook_requests_total", "webhook_conflicts_total",
        "webhook_signatures_total", "requests_refused_total", "reads_refused_total",
        "provider_requests_total", "provider_messages_total", "provider_statuses_total",
        "provider_events_total", "removed_messages_total",
        "consumer_missed_messages_total",
    ],
    "histogram": [
        "request_latency_ms", "commit_duration_seconds", "commit_batch_messages",
        "replica_ack_seconds",
    ],
    "gauge": [
        "webhook_pending_deliveries", "webhook_ready", "database_size_bytes", "wal_size_bytes",
        "disk_free_bytes", "stored_messages", "unindexed_messages", "stored_senders",
        "dead_letters", "feed_waiting", "consumer_behind_messages",
        "consumer_oldest_unread_seconds", "consumer_retention_used_ratio",
    ],
}  # fmt: skip


def total(series: dict[str, float], name: str) -> float:
    return sum(value for key, value in series.items() if re.match(rf"{name}(\{{|$)", key))


def test_the_first_scrape_has_every_result_and_a_request_count(api: Api) -> None:
    series = api.scrape()

    assert {key: series[key] for key in series if key.startswith("webhook_requests_total")} == {
        f'webhook_requests_total{{result="{result}"}}': 0.0 for result in Result
    }
    assert {*Result} >= {
        "created", "duplicate", "invalid_signature", "validation_error", "too_large", "unavailable",
    }  # fmt: skip
    assert 'http_requests_total{method="POST",path="/webhook",status="200"}' in series
    assert 'request_latency_ms_count{path="/webhook"}' in series


def test_the_exposition_is_prometheus_text_with_the_documented_names(api: Api) -> None:
    response = api.client.get("/metrics")

    assert response.status_code == 200
    assert response.content_type.startswith("text/plain; version=0.0.4")
    assert any(line.startswith("http_requests_total") for line in response.text.splitlines())
    assert any(line.startswith("webhook_requests_total") for line in response.text.splitlines())
    families = list(text_string_to_metric_families(response.text))
    named = {f.name + ("_total" if f.type == "counter" else ""): f.type for f in families}
    assert named == {name: type_ for type_, names in TYPES.items() for name in names}
    assert all(family.documentation for family in families)


def families(exposition: str) -> list[str]:
    """Return the names of the metrics, in their order."""
    return re.findall(r"^# HELP (\w+) ", exposition, re.MULTILINE)


def test_the_two_that_everybody_looks_for_are_first(api: Api) -> None:
    first = ["http_requests_total", "webhook_requests_total"]

    assert families(api.client.get("/metrics").text)[:2] == first
    some = api.client.get("/metrics?name[]=webhook_requests_total&name[]=wal_size_bytes").text
    assert families(some) == ["webhook_requests_total", "wal_size_bytes"]


def test_each_delivery_is_counted_by_its_result(api: Api) -> None:
    api.post(a_message())
    api.post(a_message())
    api.post(a_message(text="other"))
    api.post(b"not json")
    api.client.post("/webhook", data=b"unsigned")
    api.client.post("/webhook", data=b" " * 262_145)

    series = api.scrape()

    counts = {"created": 1, "duplicate": 2, "validation_error": 1, "invalid_signature": 1}
    counts |= {"too_large": 1, "incomplete": 0, "unavailable": 0, "error": 0}
    for result, count in counts.items():
        assert series[f'webhook_requests_total{{result="{result}"}}'] == count
    assert series["webhook_conflicts_total"] == 1
    for status, count in {200: 3, 422: 1, 401: 1, 413: 1}.items():
        key = f'http_requests_total{{method="POST",path="/webhook",status="{status}"}}'
        assert series[key] == count
    assert series["commit_duration_seconds_count"] == 3
    assert series["commit_batch_messages_sum"] == 3
    assert series["webhook_pending_deliveries"] == 0
    assert series["database_size_bytes"] > 0
    assert series["wal_size_bytes"] > 0


def test_every_request_is_counted_once_and_timed_once(api: Api) -> None:
    @api.app.get("/fails")
    def fail() -> str:
        raise RuntimeError

    before = api.scrape()
    paths = ["/messages", "/messages?limit=0", "/stats", "/health", "/nope", "/fails", "/metrics"]
    for path in paths:
        for method in ["GET", "HEAD", "OPTIONS", "POST", "FOO"]:
            api.client.open(path, method=method)

    after = api.scrape()

    # The first scrape itself is in the second.
    assert total(after, "http_requests_total") - total(before, "http_requests_total") == 36
    assert total(after, "http_requests_total") == total(after, "request_latency_ms_count")
    assert after['http_requests_total{method="GET",path="/fails",status="500"}'] == 1


def test_a_method_that_a_route_lacks_is_counted_under_its_rule(api: Api) -> None:
    rules = {rule.rule for rule in api.app.url_map.iter_rules()}
    values = {"<int:row_id>": "1", "<path:filename>": "docs.css"}
    for path in rules:
        for name, value in values.items():
            path = path.replace(name, value)
        assert api.client.patch(path).status_code == 405
    api.client.options("/webhook")

    series = api.scrape()

    counted = {
        path for key in series if 'status="405"' in key for path in re.findall('path="(.*?)"', key)
    }
    assert counted == rules
    assert series['webhook_requests_total{result="method_not_allowed"}'] == 2


def test_the_number_of_label_values_is_bounded_for_any_requests(api: Api) -> None:
    for n in range(30):
        api.client.get(f"/unknown/{n}")
        api.client.open("/messages", method=f"METHOD{n}")
        api.client.get(f"/messages?q={n}")
    api.client.get('/"x\\\n')
    api.client.get("/é%ff")
    api.client.open("/webhook", method='"')

    series = api.scrape()

    paths = {path for key in series for path in re.findall(r'path="([^"]*)"', key)}
    methods = {method for key in series for method in re.findall(r'method="([^"]*)"', key)}
    assert paths == {UNMATCHED} | {rule.rule for rule in api.app.url_map.iter_rules()}
    assert methods == {"GET", "POST", "PUT", "DELETE", OTHER_METHOD}
    assert series[f'http_requests_total{{method="GET",path="{UNMATCHED}",status="404"}}'] == 32


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("name[]=webhook_requests_total", {"webhook_requests_total"}),
        ("name%5B%5D=database_size_bytes", {"database_size_bytes"}),
        ("name[]=webhook_conflicts_total&name[]=wal_size_bytes",
         {"webhook_conflicts_total", "wal_size_bytes"}),
        ("name[]=no_such_metric", set()),
        ("name[]=%22%00%ff", set()),
        ("name[]=", None),
        ("name=x", None),
    ],
)  # fmt: skip
def test_a_scrape_of_some_names_has_only_these(
    api: Api, query: str, names: set[str] | None
) -> None:
    response = api.client.get(f"/metrics?{query}")

    assert response.status_code == 200
    assert names in (None, {key.partition("{")[0] for key in samples(response.text)})


def test_openmetrics_is_served_if_it_is_preferred(api: Api) -> None:
    response = api.client.get(
        "/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"}
    )

    assert response.content_type.startswith("application/openmetrics-text")
    assert response.text.endswith("# EOF\n")
    assert 'webhook_requests_total{result="created"} 0.0' in response.text


def test_what_is_stored_and_whether_it_is_ready_are_metrics_without_any_probe(api: Api) -> None:
    api.post(a_message(message_id="m1"))
    api.post(a_message(message_id="m2"))

    # On a busy machine the disk may be slower than a scrape waits.
    wait_until(lambda: api.scrape()["webhook_ready"] == 1)

    series = api.scrape()
    assert (series["stored_messages"], series["stored_senders"]) == (2, 1)
    assert series["disk_free_bytes"] > 0


def test_a_scrape_does_not_wait_for_a_disk_that_hangs(app: Flask) -> None:
    database = services_of(app).database
    readiness = Readiness(database, services_of(app).commits, deadline_s=0.05)

    # Nothing can be stored while another process holds this lock.
    with database.write_lock():
        started = time.monotonic()
        [metric] = readiness.collect()
        seconds = time.monotonic() - started

    assert [sample.value for sample in metric.samples] == [0]
    assert 0.05 <= seconds < 10


def test_metrics_are_served_when_the_database_is_lost(api: Api, tmp_path: Path) -> None:
    (tmp_path / "app.db").unlink()

    response = api.client.get("/metrics")

    assert response.status_code == 200
    assert "webhook_ready 0.0" in response.text
    assert "database_size_bytes 0.0" in response.text
    assert "stored_messages" not in response.text
