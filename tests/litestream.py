"""The real Litestream, with our configuration and a folder as its replica."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.serving import ROOT, database_in, free_port

CONFIGURATION = ROOT / ".monitoring/litestream/litestream.yml"
LITESTREAM = shutil.which("litestream") or shutil.which(
    "litestream", path=Path(sys.executable).parent
)


def with_replica(folder: Path, **others: object) -> dict[str, object]:
    """Return the settings of a service in `folder` that acknowledges what the replica has."""
    return {
        "CHECKPOINTS": "litestream",
        "ACK_AFTER": "replica",
        "LITESTREAM_SOCKET": socket_in(folder),
        **others,
    }


def socket_in(folder: Path) -> Path:
    return folder / "litestream.sock"


def configured(folder: Path) -> Path:
    """Return a copy of our configuration, for the files in `folder`."""
    text = CONFIGURATION.read_text()
    for ours, here in (
        ("/data/app.db", str(database_in(folder))),
        ("/data/litestream.sock", str(socket_in(folder))),
        ("/replica", str(folder / "replica")),
        ('":9090"', f"127.0.0.1:{free_port()}"),
    ):
        assert text.count(ours) == 1
        text = text.replace(ours, here)
    file = folder / "litestream.yml"
    file.write_text(text)
    return file


@contextmanager
def replicating(file: Path) -> "Iterator[subprocess.Popen[bytes]]":
    log = file.with_suffix(".log")
    with log.open("ab") as output:
        process = subprocess.Popen(
            [str(LITESTREAM), "replicate", "-config", file], stdout=output, stderr=output
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait(60)


def restore(file: Path, destination: Path) -> "subprocess.CompletedProcess[str]":
    command = [str(LITESTREAM), "restore", "-config", str(file), "-o", str(destination)]
    database = database_in(file.parent)
    return subprocess.run([*command, str(database)], capture_output=True, text=True)
