"""The alerts and the dashboard: their metrics exist, and alerts fire when they should."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import Api
from tests.litestream import LITESTREAM, replicating
from tests.litestream import configured as litestream_configured
from tests.serving import Server, database_in, free_port, running, serving, wait_until
from webhook_api.config import Config
from webhook_api.maintenance.backup import remember_backup
from webhook_api.store.database import Database
from webhook_api.store.files import LAST_DRILL, STANDBY, beside
from webhook_api.store.positions import create_consumer

PROJECT = Path(__file__).parent.parent
PROMETHEUS = PROJECT / ".monitoring/prometheus"
ALERTMANAGER = PROJECT / ".monitoring/alertmanager"
CREDENTIALS = "/run/secrets/read_token"  # where the Compose file puts it
DASHBOARD = PROJECT / ".monitoring/grafana/dashboards/webhook-api.json"

# A metric with or without labels, but no function.
SELECTORS = re.compile(r"\b(?:up|[a-z]+_[a-z0-9_]+)\b(?=[{\[ )]|$)(?! ?\()")

OF_LITESTREAM = {"litestream_txid", "litestream_l0_retention_files_total"}

# What Grafana puts in their place.
VARIABLES = {"$__rate_interval": "5m", "$job": "webhook-api", "$instance": ".*"}

needs_prometheus = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="needs Debian's package prometheus"
)


def the_rules() -> list[str]:
    return re.findall(r"^ +expr: (.+)$", (PROMETHEUS / "rules.yml").read_text(), re.MULTILINE)


def the_dashboard() -> list[str]:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    return [target["expr"] for panel in panels for target in panel["targets"]]


def metrics_in(expression: str) -> set[str]:
    """Return the names that are left of an expression without its labels and functions."""
    bare = re.sub(r"\{[^}]*\}|\[[^]]*\]( offset \w+)?|\bby \([^)]*\)| and ", " ", expression)
    return set(re.findall(r"\b[a-z][a-z0-9_]+\b(?! *\()", bare))


def measured_by(expression: str) -> set[str]:
    """Return the parts of an expression that have a value even without a fault."""
    for variable, value in VARIABLES.items():
        expression = expression.replace(variable, value)
    parts = [
        re.sub(r"^time\(\) - |^on \(\) | (==|<|>|>=) [\d.e]+$", "", part)
        for part in expression.split(" and ")
    ]
    return {part for part in parts if " offset " not in part}  # a new service has no past


@pytest.fixture
def config(config: Config) -> Config:
    """With a provider, which some expressions are about."""
    return replace(config, meta_app_secrets=("m",), meta_verify_token="v")


def remember_copies(database: Path) -> None:
    """Leave what a drill leaves, and what a standby has."""
    for ending in (LAST_DRILL, STANDBY):
        beside(database, ending).touch()


def test_every_expression_names_metrics_that_the_service_has(api: Api) -> None:
    remember_backup(Database(api.config.database_path), 1.0)
    remember_copies(api.config.database_path)
    create_consumer(api.writer, "a", "start")
    families = text_string_to_metric_families(api.client.get("/metrics").text)
    exposed = {sample.name for family in families for sample in family.samples}

    for expression in {*the_rules(), *the_dashboard()}:
        named = metrics_in(expression)
        assert named, expression
        assert named <= exposed | {"up"} | OF_LITESTREAM, expression


def test_metrics_of_other_programs_are_not_selected() -> None:
    for expression in the_rules():
        known = re.findall(r'\{job="(?:webhook-api|litestream)"', expression)
        assert len(known) == len(SELECTORS.findall(expression)) > 0
    for expression in the_dashboard():
        ours = expression.count('{job="$job", instance=~"$instance"')
        assert ours == len(SELECTORS.findall(expression)) > 0


def test_every_alert_is_explained() -> None:
    readme = (PROJECT / "webhook_api/docs/reference.md").read_text()
    explained = readme.split("## Alerts\n")[1].split("\n## ")[0]

    alerts = re.findall(r"- alert: (\w+)", (PROMETHEUS / "rules.yml").read_text())

    assert alerts
    assert set(re.findall(r"^\| `(\w+)` \|", explained, re.MULTILINE)) == set(alerts)


def test_the_dashboard_asks_the_prometheus_that_is_selected() -> None:
    dashboard = json.loads(DASHBOARD.read_text())

    variables = {variable["name"]: variable for variable in dashboard["templating"]["list"]}
    assert set(variables) == {"datasource", "job", "instance"}
    asked = [panel["datasource"] for panel in dashboard["panels"]]
    asked += [variables[name]["datasource"] for name in ("job", "instance")]
    assert {source["uid"] for source in asked} == {"${datasource}"}


@pytest.mark.skipif(shutil.which("amtool") is None, reason="needs prometheus-alertmanager")
def test_amtool_accepts_the_example() -> None:
    example = ALERTMANAGER / "alertmanager.example.yml"
    run = subprocess.run(["amtool", "check-config", example], capture_output=True, text=True)

    assert run.returncode == 0, run.stdout + run.stderr


@needs_prometheus
def test_the_configuration_and_the_rules_are_valid(tmp_path: Path) -> None:
    promtool("check", "config", configured(tmp_path))


@needs_prometheus
def test_alerts_fire_when_they_should_and_not_before() -> None:
    promtool("test", "rules", *PROMETHEUS.glob("*.test.yml"))


def promtool(*arguments: object) -> None:
    run = subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True)

    assert run.returncode == 0, run.stdout + run.stderr


def configured(folder: Path) -> Path:
    """Return a copy of Prometheus' configuration, with a token, in `folder`."""
    token = folder / "read_token"
    token.write_text("a-token-for-readers\n")
    configuration = (PROMETHEUS / "prometheus.yml").read_text()
    assert CREDENTIALS in configuration
    file = folder / "prometheus.yml"
    file.write_text(configuration.replace(CREDENTIALS, str(token)))
    shutil.copy(PROMETHEUS / "rules.yml", folder)
    return file


A_PROVIDER = {"META_APP_SECRET": "m", "META_VERIFY_TOKEN": "v"}


@needs_prometheus
def test_every_expression_has_data_once_the_service_is_scraped(tmp_path: Path) -> None:
    expressions = set().union(*map(measured_by, [*the_rules(), *the_dashboard()]))
    # Nothing is observed unless ACK_AFTER=replica: see test_replica.py.
    expressions = {each for each in expressions if "replica_ack_seconds" not in each}
    if LITESTREAM is None:
        expressions = {each for each in expressions if 'job="litestream"' not in each}
    number = iter(range(1_000))

    configured(tmp_path)
    replica = litestream_configured(tmp_path)
    address = yaml.safe_load(replica.read_text())["addr"]
    database_in(tmp_path).parent.mkdir()
    remember_backup(Database(database_in(tmp_path)), 1.0)
    with (
        serving(tmp_path, READ_TOKEN_FILE=tmp_path / "read_token", **A_PROVIDER) as service,
        replicating(replica) if LITESTREAM else nullcontext(),
        scraping(tmp_path, service, address) as prometheus,
    ):
        with service.client() as client:
            headers = {"Authorization": "Bearer a-token-for-readers", "If-None-Match": "*"}
            put = client.request("PUT", "/consumers/a", b'{"position":"start"}', headers)
            assert put.status == 201
        remember_copies(service.database)

        def all_have_data() -> bool:
            service.deliver(message_id=f"m{next(number)}")
            with service.client() as client:
                client.request("POST", "/webhook/meta", b"")
            without = {each for each in expressions if not has_data(prometheus, each)}
            expressions.intersection_update(without)
            return not expressions

        with suppress(AssertionError):
            wait_until(all_have_data, 120, every_s=0.3)
        groups = ask(prometheus, "/api/v1/rules")["groups"]
        without_a_token = service.get("/metrics").status

    assert expressions == set()
    assert without_a_token == 401
    assert {rule["health"] for group in groups for rule in group["rules"]} == {"ok"}


def has_data(prometheus: str, expression: str) -> bool:
    result = ask(prometheus, f"/api/v1/query?{urlencode({'query': expression})}")["result"]
    return bool(result) and "NaN" not in [series["value"][1] for series in result]


def ask(prometheus: str, path: str) -> Any:
    with urlopen(prometheus + path) as response:
        return json.load(response)["data"]


@contextmanager
def scraping(folder: Path, service: Server, replica: str) -> Iterator[str]:
    """Run Prometheus with our configuration, only in more of a hurry."""
    file = configured(folder)
    configuration = file.read_text().replace("15s", "1s")
    configuration = configuration.replace("api:8000", f"127.0.0.1:{service.port}")
    file.write_text(configuration.replace("litestream:9090", replica))
    address = f"127.0.0.1:{free_port()}"
    command = [
        "prometheus",
        f"--config.file={folder}/prometheus.yml",
        f"--storage.tsdb.path={folder}/prometheus",
        f"--web.listen-address={address}",
    ]
    with running(command, lambda: opens(f"http://{address}/-/ready")):
        yield f"http://{address}"


def opens(url: str) -> bool:
    try:
        urlopen(url).close()
    except (OSError, HTTPException):
        return False
    return True
