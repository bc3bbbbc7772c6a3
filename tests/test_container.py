"""What the container's files have to agree on with the code."""

import re
from pathlib import Path

PROJECT = Path(__file__).parent.parent
COMPOSE = (PROJECT / "docker-compose.yml").read_text()


def test_compose_passes_every_setting_on() -> None:
    settings = set(
        re.findall(r"^(?:# )?([A-Z_]+)=", (PROJECT / ".env.example").read_text(), re.MULTILINE)
    )

    passed_on = set(re.findall(r"^ +([A-Z_]+): \$\{\1:", COMPOSE, re.MULTILINE))

    # The port in the container is fixed; PORT chooses the host's.
    assert passed_on == settings - {"PORT"}
    assert '"${PORT:-8000}:8000"' in COMPOSE


def test_docker_waits_for_deliveries_longer_than_gunicorn_does() -> None:
    gunicorn = (PROJECT / "gunicorn.conf.py").read_text()
    (graceful,) = re.findall(r"^graceful_timeout = (\d+)$", gunicorn, re.MULTILINE)
    (grace,) = re.findall(r"^ +stop_grace_period: (\d+)s", COMPOSE, re.MULTILINE)

    assert int(grace) > int(graceful)


def test_the_image_has_no_secret() -> None:
    assert ".env" in (PROJECT / ".dockerignore").read_text().splitlines()
