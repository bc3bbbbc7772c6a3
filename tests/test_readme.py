"""The READMEs: their commands print what they show, and they name every setting and metric."""

import re
import shutil
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import NamedTuple

import pytest
from flask import Flask

from tests.builders import SECRET
from tests.cli.running import forked
from tests.serving import ROOT, serving, wait_until

README = (ROOT / "README.md").read_text()
PROVIDERS = (ROOT / "webhook_api" / "providers" / "README.md").read_text()
DOCUMENTS = ROOT / "webhook_api" / "docs"
REFERENCE = (DOCUMENTS / "reference.md").read_text()
BAD_NIGHT = (DOCUMENTS / "bad-night.md").read_text()


class Command(NamedTuple):
    """A line after `$ `, and the output that README shows below it."""

    line: str
    output: str


def console_commands() -> list[Command]:
    """Return the commands of the console blocks, in the order in which they are read."""
    commands = []
    text = README + BAD_NIGHT + REFERENCE
    for block in re.findall(r"^```console\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
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


def test_its_program_handles_each_message_once_though_it_is_killed(tmp_path: Path) -> None:
    _, program = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    rows = "SELECT message_id FROM texts ORDER BY rowid"

    def handled() -> list[str]:
        with closing(sqlite3.connect(tmp_path / "mine.db")) as db, suppress(sqlite3.Error):
            return [name for (name,) in db.execute(rows)]
        return []

    def run_until(last: str, delivered: list[str]) -> None:
        with subprocess.Popen([sys.executable, "-c", program], cwd=tmp_path) as running:
            for name in delivered:
                server.deliver(message_id=name)
            wait_until(lambda: last in handled())
            running.kill()

    with serving(tmp_path) as server:
        program = program.replace("localhost:8000", f"localhost:{server.port}")
        program = program.replace("OR IGNORE ", "")  # without it, a repeat would end the program
        sent = [f"m{number}" for number in range(30)]
        for part in (sent[:10], sent[10:20], sent[20:]):
            run_until(part[5], part)
        run_until(sent[-1], [])

    assert handled() == sent
    assert len([line for line in program.splitlines() if line]) == 15


def test_the_first_commands_make_settings_with_which_samples_of_meta_are_stored(
    tmp_path: Path,
) -> None:
    first, *_ = re.findall(r"^printf .*", README, re.MULTILINE)
    subprocess.run(["bash", "-c", first], cwd=tmp_path, check=True, timeout=60)
    lines = (tmp_path / ".env").read_text().splitlines()
    settings = dict(line.split("=", 1) for line in lines)

    with serving(tmp_path, **settings) as server:
        environ = settings | {"PORT": str(server.port), "DATABASE_URL": "sqlite:///none/app.db"}
        sent = forked("send", "--as", "meta", stdin_closed=False, **environ)
        stored = server.get("/stats?provider=meta").json

    assert (sent[0], sent[1].splitlines()[0]) == (0, "200 OK: 100")
    assert stored["total_messages"] == 100


def test_the_program_that_reads_prints_each_message_once(tmp_path: Path) -> None:
    program, _ = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)

    with serving(tmp_path) as server:
        server.deliver(text="Hello")
        program = program.replace("localhost:8000", f"localhost:{server.port}")
        reading = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
        assert reading.stdout is not None
        first = reading.stdout.readline()
        time.sleep(0.3)
        server.deliver(message_id="late", ts="2020-01-01T00:00:00Z", text="Late")
        second = reading.stdout.readline()
        reading.kill()
        reading.communicate()

    assert [first, second] == [b"+919876543210 Hello\n", b"+919876543210 Late\n"]


@pytest.mark.parametrize(
    "document",
    [ROOT / "README.md", *(ROOT / "webhook_api").rglob("*.md")],
    ids=lambda one: one.name,
)
def test_every_link_leads_somewhere(document: Path) -> None:
    def anchors(text: str) -> set[str]:
        titles = re.findall(r"^#+ (.*)", text, re.MULTILINE)
        return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}

    text = document.read_text()
    links = re.findall(r"\]\(([^)\s]+)\)", text)
    dead = []
    for link in links:
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        if "://" not in link and not (
            target.exists() and (not anchor or anchor in anchors(target.read_text()))
        ):
            dead.append(link)

    assert dead == []


def test_every_make_target_it_uses_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()

    used = set(re.findall(r"(?:`|^)make ([a-z]+)", README + REFERENCE, re.MULTILINE))

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

    settings = set(re.findall(r'"([A-Z][A-Z_]+)"', source))
    settings -= {"DEBUG", "INFO", "WARNING", "ERROR", "GUNICORN_FD"}  # levels, and Gunicorn's own
    documented = set(re.findall(r"^\| `([A-Z_]+)` \|", REFERENCE + PROVIDERS, re.MULTILINE))
    named = set(re.findall(r"^#?([A-Z_]+)=", example, re.MULTILINE)) - {"COMPOSE_PROJECT_NAME"}

    assert len(settings) >= 8
    assert settings <= documented == named


def test_it_names_every_route_command_and_metric(app: Flask) -> None:
    exposition = app.test_client().get("/metrics").text
    named = {
        REFERENCE: [
            *(f" {rule.rule}`" for rule in app.url_map.iter_rules() if "<" not in rule.rule),
            *(f"flask --app wsgi {name}" for name in app.cli.commands),
            *(f"`{name}`" for name in re.findall(r"^# TYPE (\w+) ", exposition, re.MULTILINE)),
        ],
    }

    assert [name for text, names in named.items() for name in names if name not in text] == []
