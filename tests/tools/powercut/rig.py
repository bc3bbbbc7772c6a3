"""A service on a recorded disk, and senders whose acknowledgements are put in the record."""

import random
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPException
from pathlib import Path
from typing import Any

from tests.builders import a_message, encode
from tests.cli.running import environment, start_in_a_shell
from tests.serving import ROOT, Load, Server, database_in, serving
from tests.tools.powercut.disk import Disk
from tests.tools.powercut.record import read_record
from tests.tools.powercut.shim import Shim

# Upkeep comes often, so that a short run has many checkpoints.
KNOBS = {"webhook_api.store.writer": {"checkpoint_every": 600, "index_every": 48}}

_SITECUSTOMIZE = f"""
import importlib.abc, importlib.util, sys

KNOBS = {KNOBS}

class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name not in KNOBS:
            return None
        knobs = KNOBS.pop(name)
        spec = importlib.util.find_spec(name)
        execute = spec.loader.exec_module
        def exec_module(module):
            execute(module)
            defaults = module.Writer.__init__.__kwdefaults__
            assert knobs.keys() <= defaults.keys(), "see KNOBS in {__name__}"
            defaults |= knobs
        spec.loader.exec_module = exec_module
        return spec

sys.meta_path.insert(0, Finder())
"""


class Rig:
    """A new folder for a service, where every change of the database is recorded."""

    def __init__(
        self, library: Path, folder: Path, *, workers: int, seed: int = 0, made: bool = True
    ) -> None:
        """Make the database's own folder as well, unless `made` is False."""
        self.folder = folder.resolve()
        self.workers = workers
        self.database = database_in(self.folder)
        self.shim = Shim(library, self.folder / "shim", self.database)
        self.chance = random.Random(seed)
        site = self.folder / "site"
        site.mkdir()
        (site / "sitecustomize.py").write_text(_SITECUSTOMIZE)
        if made:
            self.database.parent.mkdir()
        self._environment = {**self.shim.environment, "PYTHONPATH": f"{site}:{ROOT}"}

    @contextmanager
    def serving(self, **settings: object) -> Iterator[Server]:
        """Run the service until the `with` block ends."""
        given: dict[str, Any] = {"WEB_CONCURRENCY": self.workers, **self._environment, **settings}
        with serving(self.folder, **given) as server:
            yield server

    def kill(self, server: Server) -> None:
        """Kill all processes of the service."""
        self.shim.kill([server.process.pid, *server.workers])
        server.process.wait(60)

    def importing(self, prefix: str, messages: int) -> "subprocess.Popen[bytes]":
        """Start an import while the service runs."""
        lines = self.folder / f"{prefix}.ndjson"
        lines.write_bytes(
            b"".join(encode(a_message(message_id=f"{prefix}-{n}")) + b"\n" for n in range(messages))
        )
        return start_in_a_shell("import", lines, **environment(self.database), **self._environment)

    def load(self, server: Server, prefix: str) -> Load:
        """Return senders of distinct messages; each tenth message is a repeat."""
        return Load(
            server,
            prefix,
            threads=12,
            timeout_s=5,
            repeats=0.1,
            acknowledge=self.shim.acknowledge,
        )

    def deliver(self, server: Server, message_id: str) -> int:
        """Deliver a message once, and return the status; 0 if there was no answer."""
        with suppress(OSError, HTTPException):
            status = server.deliver(message_id=message_id).status
            if status == 200:
                self.shim.acknowledge(message_id)
            return status
        return 0

    def deliver_until_acknowledged(self, server: Server, message_id: str) -> None:
        """Deliver a message again and again, as a provider does.

        Raises:
            TimeoutError: it was never acknowledged.
        """
        deadline = time.monotonic() + 60
        while (status := self.deliver(server, message_id)) != 200:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{message_id} was never acknowledged, at last {status}")
            time.sleep(0.05)

    def check_record(self) -> None:
        """Check that the files agree with the record, now that nobody writes."""
        disk = Disk(self.database)
        for event in read_record(self.shim.record):
            disk.follow(event)
        found = {
            path.name: path.read_bytes()
            for path in self.database.parent.glob("app.db*")
            if not path.name.endswith("-shm")
        }
        assert found == disk.cached(), "the record has a hole"
