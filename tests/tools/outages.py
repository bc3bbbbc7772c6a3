"""Outages of the container under load: each acknowledged message must be stored once afterwards.

Senders deliver as a provider does, again and again until they are answered 200, while the
container is restarted, killed, or loses its processes. Run by .ci/run and by hand; needs Docker,
PORT (8000) free, and nothing but Python's own library: `python3 -m tests.tools.outages`. The stack
is one of its own, and is removed.
"""

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from http.client import HTTPException

from tests.builders import SECRET
from tests.serving import ROOT, Load, Service

PORT = int(os.environ.get("PORT") or 8000)
SERVICE = Service(PORT)
BEFORE_S = 2.0  # of load, and again after the outage
TIMEOUT_S = 60.0
# Of the processes in the container, in the order in which they were started: the init of Docker,
# Gunicorn's arbiter, its workers. The last is the one that asks.
KILL = "import os, signal; pids = sorted(int(p) for p in os.listdir('/proc') if p.isdigit()); "
ENVIRONMENT = {
    **os.environ,
    "COMPOSE_PROJECT_NAME": "webhook-api-outages",
    "WEBHOOK_SECRET": SECRET,
    "DATABASE_URL": "sqlite:///data/app.db",
    "PORT": str(PORT),
}


def main() -> None:
    """Try all outages, one after the other, on one stack and one database."""
    compose("up", "--detach", "--build", "--wait")
    try:
        for outage in (restart, kill_container, kill_arbiter, kill_worker):
            outage_under_load(outage)
        counts_survive_a_worker()
        counts_start_from_zero()
    finally:
        compose("down", "--volumes")


def restart() -> None:
    compose("restart")


def kill_container() -> None:
    compose("kill", "--signal", "KILL")
    compose("start")


def kill_arbiter() -> None:
    """Let Docker's restart policy start the service again."""
    # Detached, for the killer goes down with it.
    code = KILL + "os.kill(pids[1], signal.SIGKILL)"
    compose("exec", "--detach", "api", "python", "-c", code)


def kill_worker() -> None:
    execute(KILL + "os.kill(pids[2], signal.SIGKILL)")


def outage_under_load(outage: Callable[[], None]) -> None:
    with Load(SERVICE, outage.__name__, timeout_s=5, finish_s=TIMEOUT_S) as load:
        time.sleep(BEFORE_S)
        outage()
        time.sleep(BEFORE_S)
    stored = Counter(
        message["message_id"]
        for message in map(json.loads, SERVICE.get_stream().body.splitlines())
        if message["message_id"].startswith(outage.__name__)
    )
    acknowledged = load.acknowledged
    others = Counter(type(failure).__name__ for failure in load.failures)
    others.update({str(status): times for status, times in load.statuses.items() if status != 200})
    lost = acknowledged - stored.keys()
    twice = [message_id for message_id, times in stored.items() if times > 1]
    say(
        f"{outage.__name__}: {len(acknowledged)} acknowledged,"
        f" {dict(others)} were delivered again; stored {stored.total()}, lost {len(lost)},"
        f" more than once {len(twice)}"
    )
    check(others.total() > 0 or outage is kill_worker, "the outage went unnoticed")
    check(not lost and not twice and stored.keys() == acknowledged, "stored is not acknowledged")


def counts_survive_a_worker() -> None:
    """Counts are the same in every scrape, and after a worker was killed they go on from there."""
    before = created()
    deliver("counted-first", 200)
    counted = {created() for _ in range(10)}
    kill_worker()
    time.sleep(1)
    counted |= {created() for _ in range(10)}
    deliver("counted-then", 100)
    after = created()
    say(
        f"counts: {before:.0f}, after 200 more {counted} with a worker killed between two tens of"
        f" scrapes, after 100 more {after:.0f}"
    )
    check(counted == {before + 200} and after == before + 300, "counts are lost or doubled")


def counts_start_from_zero() -> None:
    restart()
    until_ready()
    folders = execute("import os; print(len(os.listdir('/dev/shm')))").strip()
    say(f"counts after a restart: {created():.0f}, folders of metrics: {folders}")
    check(created() == 0 and folders == "1", "something is left from before the restart")


def deliver(prefix: str, messages: int) -> None:
    statuses = SERVICE.deliver_all((f"{prefix}-{number}" for number in range(messages)), threads=1)
    check(statuses == {200: messages}, "a delivery failed")


def created() -> float:
    line = 'webhook_requests_total{result="created"} '
    (value,) = [each[len(line) :] for each in get("/metrics").splitlines() if each.startswith(line)]
    return float(value)


def until_ready() -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        try:
            get("/health/ready")
        except (OSError, HTTPException):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
        else:
            return


def get(path: str) -> str:
    reply = SERVICE.get(path, timeout_s=30)
    if reply.status != 200:
        raise HTTPException(f"{path} answered {reply.status}")
    return reply.body.decode()


def execute(code: str) -> str:
    return compose("exec", "--no-TTY", "api", "python", "-c", code)


def compose(*arguments: str) -> str:
    run = subprocess.run(
        ["docker", "compose", *arguments],
        cwd=ROOT,
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    check(run.returncode == 0, f"docker compose {' '.join(arguments)}\n{run.stdout}{run.stderr}")
    return run.stdout


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def check(holds: bool, otherwise: str) -> None:
    if not holds:
        sys.exit(f"FAILED: {otherwise}")


if __name__ == "__main__":
    main()
