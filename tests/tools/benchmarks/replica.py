"""What ACK_AFTER=replica costs: `python -m tests.tools.benchmarks.replica --help`.

All servers run side by side, each with its Litestream, and are measured in turn: one that
acknowledges what is on disk, one with a folder as its replica, and some whose uploads go to an S3
of ours that takes its time. wrk counts a delivery without an answer for 2 s as failed.
"""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path

import click

from tests.litestream import CONFIGURATION, LITESTREAM
from tests.serving import free_port, wait_until
from tests.tools.benchmarks.harness import Measured, Server, middle, require, show_table
from tests.tools.benchmarks.slow_s3 import slow_s3
from tests.tools.benchmarks.writes import Bodies

_FOLDER = "      type: file\n      path: /replica\n"
_HEAD = ("", "requests/s", "p50 ms", "p99 ms", "upload ms", "failed")


@contextmanager
def _replicated(name: str, folder: Path, port: int, upload_ms: int | None) -> Iterator[Server]:
    """Run a service and its Litestream; without `upload_ms`, the replica is a folder."""
    with ExitStack() as stack:
        replica = _FOLDER.replace("/replica", str(folder / "replica"))
        if upload_ms is not None:
            url = stack.enter_context(slow_s3(upload_ms / 1000))
            replica = (
                f"      type: s3\n      bucket: b\n      path: p\n      endpoint: {url}\n"
                "      region: us-east-1\n      force-path-style: true\n"
                "      access-key-id: x\n      secret-access-key: x\n"
            )
        socket_path = folder / "s.sock"
        server = Server(
            name=name,
            port=port,
            folder=folder,
            environment={
                "CHECKPOINTS": "litestream",
                "ACK_AFTER": "disk" if name.startswith("disk") else "replica",
                "LITESTREAM_SOCKET": str(socket_path),
            },
        )
        text = CONFIGURATION.read_text().replace(_FOLDER, replica)
        text = text.replace("/data/app.db", str(server.database))
        text = text.replace("/data/litestream.sock", str(socket_path))
        configuration = folder / "litestream.yml"
        configuration.write_text(text.replace('":9090"', f"127.0.0.1:{free_port()}"))
        stack.enter_context(server)
        with (folder / "litestream.log").open("wb") as log:
            process = subprocess.Popen(
                [str(LITESTREAM), "replicate", "-config", configuration],
                stdout=log,
                stderr=log,
                # Litestream 0.5.17 fails with one, because we need http:// here.
                env={key: os.environ[key] for key in os.environ if key != "AWS_CA_BUNDLE"},
            )
        stack.callback(process.wait)
        stack.callback(process.kill)
        wait_until(lambda: server.service.deliver(message_id="first").status == 200, 60)
        yield server


def _uploads(server: Server) -> tuple[float, float]:
    """Return how many batches were acknowledged, and the seconds that they waited."""
    lines = server.service.get("/metrics").body.decode().splitlines()
    values = dict(line.rsplit(" ", 1) for line in lines if line.startswith("replica_ack_"))
    return float(values["replica_ack_seconds_count"]), float(values["replica_ack_seconds_sum"])


@click.command()
@click.option("--connections", default="1,32,256", show_default=True)
@click.option("--upload-ms", default="20,100,500", show_default=True, help="Of the S3 servers.")
@click.option("--rounds", default=3, show_default=True)
@click.option("--seconds", default=3.0, show_default=True, help="Length of one run.")
@click.option("--port", default=8240, show_default=True, help="The first port.")
def main(connections: str, upload_ms: str, rounds: int, seconds: float, port: int) -> None:
    """Measure deliveries that are acknowledged on disk, and in the replica."""
    require("wrk", "to send requests")
    kinds: list[tuple[str, int | None]] = [("disk", None), ("replica: a folder", None)]
    kinds += [(f"replica: uploads of {ms} ms", int(ms)) for ms in upload_ms.split(",")]
    with tempfile.TemporaryDirectory(prefix="webhook-bench-") as folder, ExitStack() as stack:
        bodies, ports = Bodies(Path(folder)), count(port)
        servers = []
        for number, (name, ms) in enumerate(kinds):
            own = Path(folder) / str(number)
            own.mkdir()
            servers.append(stack.enter_context(_replicated(name, own, next(ports), ms)))
        rows = []
        for many in map(int, connections.split(",")):
            runs: dict[str, list[Measured]] = {server.name: [] for server in servers}
            waited = dict.fromkeys(runs, 0.0)
            for _ in range(rounds):
                path = bodies.fresh(seconds)
                for server in servers:
                    batches, total_s = _uploads(server)
                    runs[server.name].append(server.post(path, many, seconds))
                    batches, total_s = (
                        after - before
                        for after, before in zip(_uploads(server), (batches, total_s), strict=True)
                    )
                    waited[server.name] = total_s / batches * 1000 if batches else 0
            rows += [
                [
                    f"{many} connections, {name}",
                    f"{middle([run.per_second for run in each]):.0f}",
                    f"{middle([run.p50_ms for run in each]):.1f}",
                    f"{middle([run.p99_ms for run in each]):.1f}",
                    f"{waited[name]:.1f}" if waited[name] else "",
                    sum(run.refused + run.broken for run in each),
                ]
                for name, each in runs.items()
            ]
        show_table(_HEAD, rows)


if __name__ == "__main__":
    main()
