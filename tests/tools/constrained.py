"""The container under the constraints of the Kubernetes manifest, started by Docker.

User, group of the volume, root, capabilities, memory, settings and secrets are taken from
.deploy/kubernetes.yaml. A change of the secrets reaches the service as kubelet brings it: a
symbolic link is replaced, then SIGHUP. Run by .ci/run, with the image of `docker compose build`;
needs PyYAML, Docker and PORT (8000) free: `python -m tests.tools.constrained`.
"""

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import yaml

from tests.builders import SECRET
from tests.serving import ROOT, Service, wait_until
from tests.tools.outages import check, say

NAME = "webhook-api-constrained"
IMAGE = "webhook-api"
NEW = "the new secret"
PORT = int(os.environ.get("PORT") or 8000)
DOCUMENTS = yaml.safe_load_all((ROOT / ".deploy/kubernetes.yaml").read_text())
(POD,) = [one["spec"]["template"]["spec"] for one in DOCUMENTS if one["kind"] == "Deployment"]
(API,) = POD["containers"]
SETTINGS = {one["name"]: one["value"] for one in API["env"]}
MOUNTS = {one["name"]: one["mountPath"] for one in API["volumeMounts"]}


def docker(*arguments: object, check: bool = True) -> str:
    command = ["docker", *map(str, arguments)]
    return subprocess.run(command, check=check, text=True, stdout=subprocess.PIPE).stdout.strip()


def in_volumes(script: str) -> None:
    """Run a shell script as root where the volumes of the Pod are, as kubelet would."""
    docker("run", "--rm", "--user", 0, *volumes(), IMAGE, "sh", "-ec", script)


def volumes(read_only: str = "") -> list[str]:
    data, secrets = MOUNTS["data"], MOUNTS["secrets"]
    return ["-v", f"{NAME}-data:{data}", "-v", f"{NAME}-secrets:{secrets}{read_only}"]


def put_secrets(version: str, **files: str) -> None:
    """Replace all secrets at once, as kubelet does: the link `..data` leads to the new ones."""
    group = POD["securityContext"]["fsGroup"]
    (mode,) = [one["secret"]["defaultMode"] for one in POD["volumes"] if one["name"] == "secrets"]
    script = f"cd {MOUNTS['secrets']}; mkdir ..{version}; "
    for setting, value in files.items():
        name = Path(SETTINGS[setting]).name
        script += f"printf %s '{value}' > ..{version}/{name}; ln -sfn ..data/{name} {name}; "
    script += f"chown -R 0:{group} ..{version}; chmod {mode:o} ..{version}/*; "
    in_volumes(script + f"ln -s ..{version} ..new; mv -T ..new ..data")


def run_pod() -> None:
    """Start the container with what the manifest says."""
    pod, api = POD["securityContext"], API["securityContext"]
    (tmp,) = [one["emptyDir"]["sizeLimit"] for one in POD["volumes"] if one["name"] == "tmp"]
    memory = API["resources"]["limits"]["memory"].removesuffix("i").lower()
    limits = ["--memory", memory, "--memory-swap", memory]
    limits += ["--tmpfs", f"{MOUNTS['tmp']}:size={tmp.removesuffix('i').lower()}"]
    if api["readOnlyRootFilesystem"]:
        limits.append("--read-only")
    if not api["allowPrivilegeEscalation"]:
        limits += ["--security-opt", "no-new-privileges:true"]
    limits += [f"--cap-drop={capability}" for capability in api["capabilities"]["drop"]]
    user = ["--user", f"{pod['runAsUser']}:{pod['runAsGroup']}", "--group-add", pod["fsGroup"]]
    environment = [f"--env={name}={value}" for name, value in SETTINGS.items()]
    published = f"127.0.0.1:{PORT}:{API['ports'][0]['containerPort']}"
    docker(
        *("run", "--detach", "--name", NAME, "--publish", published),
        *(*user, *limits, *volumes(":ro"), *environment, IMAGE),
    )


def is_ready() -> bool:
    try:
        return Service(PORT).get(API["readinessProbe"]["httpGet"]["path"]).status == 200
    except OSError:
        return False


def deliver(message_id: str, secret: str) -> int:
    return Service(PORT).deliver(message_id=message_id, secret=secret).status


def show(what: str, seen: Any, expected: Any) -> None:
    say(f"{what}: {seen}")
    check(seen == expected, f"expected {expected}")


def inside(script: str) -> str:
    return docker("exec", NAME, "sh", "-c", script)


def confinement() -> dict[str, str]:
    """Return what the kernel says of the process that serves (proc(5))."""
    status = dict(re.findall(r"^(\w+):\t(\S+)", inside("cat /proc/1/status"), re.MULTILINE))
    names = ("Uid", "Gid", "CapEff", "CapBnd", "NoNewPrivs", "Seccomp")
    return {name: status[name] for name in names}


def workers() -> set[str]:
    return set(inside("cat /proc/1/task/1/children").split())


def reload() -> None:
    """Send SIGHUP, and return when all workers have been replaced."""
    before = workers()
    inside("kill -HUP 1")
    wait_until(lambda: len(workers()) == len(before) and not workers() & before, 60)


def main() -> None:
    group = POD["securityContext"]["fsGroup"]
    in_volumes(f"cd {MOUNTS['data']}; chown 0:{group} .; chmod 2775 .")  # as fsGroup does
    files = {"WEBHOOK_SECRET_PREVIOUS_FILE": "", "READ_TOKEN_FILE": "a-token-of-this-test"}
    put_secrets("1", WEBHOOK_SECRET_FILE=SECRET, **files)
    run_pod()
    wait_until(is_ready, 60)
    user, none = str(POD["securityContext"]["runAsUser"]), "0" * 16
    confined = {"CapEff": none, "CapBnd": none, "NoNewPrivs": "1", "Seccomp": "2"}
    show("process 1", confinement(), {"Uid": user, "Gid": user, **confined})
    show("root", inside("grep ' / ' /proc/mounts").split()[3].split(",")[0], "ro")
    show("a delivery", deliver("first", SECRET), 200)
    show("without a token, /messages", Service(PORT).get("/messages").status, 401)

    files["WEBHOOK_SECRET_PREVIOUS_FILE"] = SECRET
    put_secrets("2", WEBHOOK_SECRET_FILE=NEW, **files)
    reload()
    both = [deliver("second", each) for each in (SECRET, NEW)]
    show("after HUP, the old secret and the new one", both, [200, 200])
    files["WEBHOOK_SECRET_PREVIOUS_FILE"] = ""
    put_secrets("3", WEBHOOK_SECRET_FILE=NEW, **files)
    reload()
    both = [deliver("third", each) for each in (SECRET, NEW)]
    show("after the second HUP", both, [401, 200])

    docker("stop", "--time", POD["terminationGracePeriodSeconds"], NAME)
    show("status at the end", docker("inspect", "--format", "{{.State.ExitCode}}", NAME), "0")
    docker("rm", NAME)
    run_pod()  # the next Pod, with the same volume
    wait_until(is_ready, 60)
    verified = inside("flask --app wsgi verify")
    show("in the next Pod", verified, f"{MOUNTS['data']}/app.db: 3 messages, nothing differs")


if __name__ == "__main__":
    try:
        main()
    except BaseException:
        say(docker("logs", "--tail", 3, NAME, check=False))
        raise
    finally:
        docker("rm", "--force", NAME, check=False)
        docker("volume", "rm", "--force", f"{NAME}-data", f"{NAME}-secrets", check=False)
