"""The READMEs: their commands print what they show, and they name every setting and metric."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from flask import Flask

from tests.builders import SECRET
from tests.serving import ROOT, serving

README = (ROOT / "README.md").read_text()
PROVIDERS = (ROOT / "webhook_api" / "providers" / "README.md").read_text()
MONITORING = (ROOT / ".monitoring" / "README.md").read_text()


class Command(NamedTuple):
    """A line after `$ `, and the output that README shows below it."""

    line: str
    output: str


def console_commands() -> list[Command]:
    """Return the commands of README's console blocks, in their order."""
    commands = []
    for block in re.findall(r"^```console\n(.*?)^```", README, re.MULTILINE | re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            line, _, output = part.partition("\n")
            commands.append(Command(line, output))
    return commands


@pytest.mark.skipif(
    not all(map(shutil.which, ["bash", "curl", "jq", "openssl"])),
    reason="README's commands use bash, curl, jq and openssl",
)
def test_every_console_command_prints_what_is_shown(tmp_path: Path) -> None:
    commands = console_commands()
    end = "-- end of output --"
    script = "".join(f"{command.line}\nprintf '%s\\n' '{end}'\n" for command in commands)

    with serving(tmp_path) as server:
        script = script.replace("localhost:8000", f"localhost:{server.port}")
        script = script.replace(".venv/bin/", f"{Path(sys.executable).parent}/")
        run = subprocess.run(
            ["bash", "-c", script],
            cwd=ROOT,
            env={
                "PATH": "/usr/local/bin:/usr/bin:/bin",
                "WEBHOOK_SECRET": SECRET,
                "DATABASE_URL": f"sqlite:///{server.database}",
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    outputs = run.stdout.split(f"{end}\n")[:-1]
    printed = [
        Command(command.line, output if command.output else "")
        for command, output in zip(commands, outputs, strict=True)
    ]
    assert len(commands) > 10
    assert printed == commands, run.stderr


def test_every_make_target_it_uses_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()

    used = set(re.findall(r"(?:`|^)make ([a-z]+)", README, re.MULTILINE))

    assert len(used) > 3
    assert used <= set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))


@pytest.mark.parametrize(
    "words",
    [
        "## How to run", "## How to hit the endpoints", "## Design decisions", "## Setup used",
        "**How HMAC is verified.**", "**How the pagination contract works.**",
        "**How `/stats` is defined.**", "**How the metrics are defined.**",
    ],
)  # fmt: skip
def test_it_has_what_the_specification_asks_for(words: str) -> None:
    assert re.search(rf"^(- )?{re.escape(words)}", README, re.MULTILINE)


def test_the_specified_metrics_have_the_labels_that_it_names(app: Flask) -> None:
    exposition = app.test_client().get("/metrics").text

    for name in ("http_requests_total", "webhook_requests_total", "request_latency_ms"):
        (labels,) = re.findall(rf"`{name}\{{(.*?)\}}`", README)
        (sample,) = re.findall(rf"^{name}(?:_count)?\{{(.*)\}}", exposition, re.MULTILINE)[:1]
        assert labels.split(",") == re.findall(r"(\w+)=", sample)


def test_it_and_env_example_name_every_setting() -> None:
    source = (ROOT / "webhook_api" / "config.py").read_text()
    example = (ROOT / ".env.example").read_text()

    settings = set(re.findall(r'"([A-Z][A-Z_]+)"', source)) - {"DEBUG", "INFO", "WARNING", "ERROR"}
    documented = set(re.findall(r"^\| `([A-Z_]+)` \|", README + PROVIDERS, re.MULTILINE))
    named = set(re.findall(r"^#?([A-Z_]+)=", example, re.MULTILINE)) - {"COMPOSE_PROJECT_NAME"}

    assert len(settings) >= 8
    assert settings <= documented == named


def test_it_names_every_route_command_and_metric(app: Flask) -> None:
    exposition = app.test_client().get("/metrics").text
    named = {
        README: [
            *(f" {rule.rule}`" for rule in app.url_map.iter_rules() if "<" not in rule.rule),
            *(f"flask --app wsgi {name}" for name in app.cli.commands),
        ],
        MONITORING: [
            f"`{name}`" for name in re.findall(r"^# TYPE (\w+) ", exposition, re.MULTILINE)
        ],
    }

    assert [name for text, names in named.items() for name in names if name not in text] == []
