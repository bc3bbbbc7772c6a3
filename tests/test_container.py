"""The container's files agree with the code."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

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
    given.append(("webhook_secret", "WEBHOOK_SECRET"))  # see the tests with Compose itself
    assert sorted(given) == sorted((secret, name) for name, secret in named)
    assert f"secrets: &secrets [{', '.join(secret for _, secret in named)}]" in COMPOSE
    prometheus = (PROJECT / ".monitoring/prometheus/prometheus.yml").read_text()
    assert "credentials_file: /run/secrets/read_token\n" in prometheus
    assert "secrets: [read_token]\n" in COMPOSE


def test_an_example_sets_nothing_but_the_secret() -> None:
    lines = (PROJECT / ".env.example").read_text().splitlines()

    assert [line for line in lines if line and not line.startswith("#")] == ["WEBHOOK_SECRET="]


def test_the_image_has_no_secret() -> None:
    left_out = (PROJECT / ".dockerignore").read_text().splitlines()

    assert {".env", ".secrets"} <= set(left_out)


def _compose() -> list[str]:
    for command in (["docker-compose"], ["docker", "compose"]):
        if shutil.which(command[0]) and not subprocess.call(
            [*command, "version"], stdout=subprocess.DEVNULL
        ):
            return command
    pytest.skip("needs Compose")


@pytest.mark.parametrize(
    ("given", "file"),
    [
        ({"WEBHOOK_SECRET": "$(touch x) `id`'\""}, "docker-compose.yml"),
        ({"WEBHOOK_SECRET_FILE": ".secrets/webhook-secret"}, ".secrets/webhook-secret"),
        ({"WEBHOOK_SECRET_FILE": "/run/a-secret"}, "/run/a-secret"),
        ({}, "set WEBHOOK_SECRET, by export or in a copy of .env.example named .env"),
    ],
    ids=["variable", "file", "absolute file", "neither"],
)
def test_compose_takes_the_secret_from_a_variable_or_a_file(
    tmp_path: Path, given: dict[str, str], file: str
) -> None:
    shutil.copy(PROJECT / "docker-compose.yml", tmp_path)

    done = subprocess.run(
        [*_compose(), "config", "--format", "json"],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], **given},
        capture_output=True,
        check=True,
    )

    stack = json.loads(done.stdout)
    environment = stack["services"]["api"]["environment"]
    # As `config` prints it, a $ is doubled.
    assert environment["WEBHOOK_SECRET"] == given.get("WEBHOOK_SECRET", "").replace("$", "$$")
    assert bool(environment["WEBHOOK_SECRET_FILE"]) == ("WEBHOOK_SECRET_FILE" in given)
    # Docker refuses to mount what is not there, and names it.
    assert stack["secrets"]["webhook_secret"]["file"] == str(tmp_path / file)


@pytest.mark.skipif(not shutil.which("make"), reason="needs make")
@pytest.mark.parametrize("target", ["up", "down", "stop", "logs", "test"])
def test_make_neither_evaluates_nor_changes_a_secret(tmp_path: Path, target: str) -> None:
    for name in ("Makefile", ".stack.sh"):
        shutil.copy(PROJECT / name, tmp_path)
    docker = tmp_path / "docker"
    docker.write_text('#!/bin/sh\nprintf %s "$WEBHOOK_SECRET" > seen\n')
    docker.chmod(0o755)
    secret = "$(touch evaluated)$(shell touch evaluated)`touch evaluated`'\"$$"

    subprocess.run(
        ["make", target],
        cwd=tmp_path,
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}", "WEBHOOK_SECRET": secret},
        capture_output=True,
        check=False,
    )

    assert (tmp_path / "seen").read_text() == secret
    assert not (tmp_path / "evaluated").exists()
