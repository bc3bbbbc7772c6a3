"""A service on a recorded disk, and senders whose acknowledgements are put in the record."""

import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPException
from itertools import count
from pathlib import Path
from typing import Any, Self

from tests.builders import SECRET, a_message, encode
from tests.serving import ROOT, Client, Server, database_in, serving
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
        server.process.wait(10)

    def importing(self, prefix: str, messages: int) -> "subprocess.Popen[bytes]":
        """Start an import while the service runs."""
        lines = self.folder / f"{prefix}.ndjson"
        lines.write_bytes(
            b"".join(encode(a_message(message_id=f"{prefix}-{n}")) + b"\n" for n in range(messages))
        )
        environment = {
            "WEBHOOK_SECRET": SECRET,
            "DATABASE_URL": f"sqlite:///{self.database}",
            **self._environment,
        }
        return subprocess.Popen(
            [sys.executable, "-m", "flask", "--app", "wsgi", "import", lines],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
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
        deadline = time.monotonic() + 30
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


class Senders:
    """Senders of distinct messages during a `with` block; each tenth message is a repeat."""

    def __init__(self, rig: Rig, server: Server, prefix: str, threads: int = 12) -> None:
        self.acknowledged: list[str] = []
        self.refused = 0
        self._rig, self._server, self._prefix = rig, server, prefix
        self._numbers = count()
        self._going = True
        self._threads = [
            threading.Thread(target=self._send, args=[random.Random(f"{prefix} {number}")])
            for number in range(threads)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._going = False
        for thread in self._threads:
            thread.join()

    def _send(self, chance: random.Random) -> None:
        with self._server.client(timeout_s=5) as client:
            while self._going:
                message_id = f"{self._prefix}-{next(self._numbers)}"
                if self.acknowledged and chance.random() < 0.1:
                    message_id = chance.choice(self.acknowledged)
                while self._going and not self._deliver(client, message_id):
                    time.sleep(0.02)

    def _deliver(self, client: Client, message_id: str) -> bool:
        sender = f"+9198765432{len(message_id) % 100:02}"
        try:
            status = client.deliver(message_id=message_id, sender=sender).status
        except (OSError, HTTPException):
            return False
        if status == 200:
            self._rig.shim.acknowledge(message_id)
            self.acknowledged.append(message_id)
        else:
            self.refused += 1
        return status == 200
