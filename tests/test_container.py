"""The container's files agree with the code."""

import re
from pathlib import Path

PROJECT = Path(__file__).parent.parent
COMPOSE = (PROJECT / "docker-compose.yml").read_text()


def test_compose_passes_every_setting_on() -> None:
    settings = set(
        re.findall(r"^#?([A-Z_]+)=", (PROJECT / ".env.example").read_text(), re.MULTILINE)
    )

    passed_on = set(re.findall(r"^ +([A-Z_]+): \$\{\1:", COMPOSE, re.MULTILINE))

    # Where it listens in the container is fixed; BIND and PORT are the host's.
    assert passed_on == settings - {"BIND", "PORT", "COMPOSE_PROJECT_NAME"}
    assert '"${BIND:+${BIND:-}:}${PORT:-8000}:8000"' in COMPOSE


def test_files_with_secrets_are_where_compose_says() -> None:
    named = re.findall(r"^ +(\w+)_FILE: \$\{\1_FILE:\+/run/secrets/(\w+)\}$", COMPOSE, re.MULTILINE)
    given = re.findall(r"^  (\w+):\n    file: \$\{(\w+)_FILE:-/dev/null\}$", COMPOSE, re.MULTILINE)

    assert len(named) == 7
    assert all(secret == name.lower() for name, secret in named)
    assert sorted(given) == sorted((secret, name) for name, secret in named)
    assert f"secrets: &secrets [{', '.join(secret for _, secret in named)}]" in COMPOSE
    prometheus = (PROJECT / ".monitoring/prometheus/prometheus.yml").read_text()
    assert "credentials_file: /run/secrets/read_token\n" in prometheus
    assert "secrets: [read_token]\n" in COMPOSE


def test_an_example_sets_nothing_but_the_secret() -> None:
    lines = (PROJECT / ".env.example").read_text().splitlines()

    assert [line for line in lines if line and not line.startswith("#")] == ["WEBHOOK_SECRET="]


def test_docker_waits_for_deliveries_longer_than_gunicorn_does() -> None:
    gunicorn = (PROJECT / "gunicorn.conf.py").read_text()
    (graceful,) = re.findall(r"^graceful_timeout = (\d+)$", gunicorn, re.MULTILINE)
    grace, *_ = re.findall(r"^ +stop_grace_period: (\d+)s", COMPOSE, re.MULTILINE)

    assert int(grace) > int(graceful)


def test_the_image_has_no_secret() -> None:
    left_out = (PROJECT / ".dockerignore").read_text().splitlines()

    assert {".env", ".secrets"} <= set(left_out)
