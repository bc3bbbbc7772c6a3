"""The shim in C: compiles it, attaches it, and tells it which calls must fail."""

import ctypes
import mmap
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from enum import IntEnum, IntFlag
from pathlib import Path
from typing import Self

SOURCE = Path(__file__).with_name("shim.c")
_RULES = 8


class Files(IntFlag):
    """The files that a fault affects."""

    DATABASE = 1
    WAL = 2
    LOCK = 4
    OTHER = 8  # app.db-journal, and whatever else begins with the database's name
    FOLDER = 16
    ABOVE = 32  # the folders above that of the database


class Calls(IntFlag):
    """The calls that a fault affects."""

    WRITE = 1
    SYNC = 2
    TRUNCATE = 4
    UNLINK = 8
    OPEN = 16


class _Action(IntEnum):
    FAIL = 1
    SHORT = 2
    HANG = 3
    HOLD = 4


class _Rule(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_int32)
        for name in (
            "files", "calls", "pid", "page", "skip", "times", "action", "value", "hits", "held",
        )
    ]  # fmt: skip


class _Control(ctypes.Structure):
    _fields_ = [
        ("lock", ctypes.c_char * 64),
        ("syncs", ctypes.c_uint64),
        ("sync_us", ctypes.c_int32),
        ("size", ctypes.c_int32),
        ("rules", _Rule * _RULES),
    ]


class Fault:
    """A fault in force; `lift` ends it."""

    def __init__(self, rule: _Rule) -> None:
        self._rule = rule

    @property
    def hits(self) -> int:
        """How many calls it has affected."""
        return int(self._rule.hits)

    @property
    def held(self) -> int:
        """The id of the process that waits in a call, 0 for none."""
        return int(self._rule.held)

    def wait(self, timeout_s: float = 60.0) -> int:
        """Return the id of the process that is held, as soon as one is.

        Raises:
            TimeoutError: none came to the point.
        """
        deadline = time.monotonic() + timeout_s
        while not self.held:
            if time.monotonic() > deadline:
                raise TimeoutError("no process came to the point where it is to be held")
            time.sleep(0.001)
        return self.held

    def lift(self) -> None:
        """Let all later calls succeed, and let a held process go on."""
        self._rule.files = 0
        self._rule.held = 0


class Faults:
    """The faults of one database, in the control that all processes share."""

    def __init__(self, library: ctypes.CDLL, control: Path) -> None:
        self._library = library
        with control.open("r+b") as file:
            self._control = _Control.from_buffer(mmap.mmap(file.fileno(), 0))
        assert self._control.size == ctypes.sizeof(_Control), "shim.c and shim.py differ"

    @classmethod
    def of_this_process(cls) -> Self:
        """Return those that this process, which runs with the shim, meets."""
        return cls(ctypes.CDLL(None), Path(os.environ["POWERCUT_CONTROL"]))

    def fail(
        self, files: Files, calls: Calls, error: int, *, skip: int = 0, times: int = -1
    ) -> Fault:
        """Let these calls fail with `error`, after `skip` more; `times` -1: until it is lifted."""
        return self._command(files, calls, _Action.FAIL, value=error, skip=skip, times=times)

    def shorten(self, files: Files, *, skip: int = 0, times: int = 1) -> Fault:
        """Let a write store only half of its bytes."""
        return self._command(files, Calls.WRITE, _Action.SHORT, skip=skip, times=times)

    def hang(self, files: Files, seconds: float, *, skip: int = 0, times: int = 1) -> Fault:
        """Let a sync take longer."""
        value = int(seconds * 1000)
        return self._command(files, Calls.SYNC, _Action.HANG, value=value, skip=skip, times=times)

    def hold(
        self, files: Files, calls: Calls, *, skip: int = 0, pid: int = 0, page: int = 0
    ) -> Fault:
        """Let a process wait before this call; with `page`, before that of this page in the WAL."""
        return self._command(files, calls, _Action.HOLD, skip=skip, times=1, pid=pid, page=page)

    def _command(self, files: Files, calls: Calls, action: _Action, **fields: int) -> Fault:
        with self._locked():
            rule = next(rule for rule in self._control.rules if not rule.files)
            rule.calls, rule.action, rule.hits, rule.held = calls, action, 0, 0
            for name in ("pid", "page", "skip", "times", "value"):
                setattr(rule, name, fields.get(name, 0))
            rule.files = files
        return Fault(rule)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._library.powercut_lock()
        try:
            yield
        finally:
            self._library.powercut_unlock()


class Shim(Faults):
    """The shim's control and record files for one database, in a new folder."""

    def __init__(
        self, library: Path, folder: Path, database: Path, *, sync_ms: float = 0.5
    ) -> None:
        """Let each sync take `sync_ms`; `database` must not be there yet."""
        folder.mkdir(parents=True)
        self.record = folder / "record"
        control = folder / "control"
        self.environment = {
            "LD_PRELOAD": str(library),
            "POWERCUT_DATABASE": str(database),
            "POWERCUT_CONTROL": str(control),
            "POWERCUT_RECORD": str(self.record),
        }
        # A copy for each database: a library is loaded once, and knows one control.
        own = folder / library.name
        shutil.copy(library, own)
        loaded = ctypes.CDLL(str(own))
        if loaded.powercut_create(os.fsencode(control), os.fsencode(self.record)) != 0:
            raise OSError(f"cannot make {control}")
        super().__init__(loaded, control)
        self._control.sync_us = int(sync_ms * 1000)

    def acknowledge(self, message_id: str) -> None:
        """Record that the service has acknowledged this message."""
        self._library.powercut_acknowledge(message_id.encode())

    def kill(self, pids: Iterable[int]) -> None:
        """Kill these processes between two of their calls, so that the record stays whole."""
        with self._locked():
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
            for pid in pids:
                _until_dead(pid)


def why_not() -> str | None:
    """Return what the shim needs and this system does not have; None if it has everything."""
    if sys.platform != "linux":
        return "the shim that stands before a file's calls is for Linux"
    return None if _compiler() else "no C compiler, which the shim before a file's calls needs"


def build(folder: Path) -> Path:
    """Compile the shim into `folder`, and return the library."""
    library = folder / "powercut.so"
    command = [
        _compiler() or "cc",
        "-O2",
        "-shared",
        "-fPIC",
        "-pthread",
        "-o",
        str(library),
        str(SOURCE),
    ]
    subprocess.run(command, check=True)
    return library


def _compiler() -> str | None:
    return shutil.which(os.environ.get("CC", "cc")) or shutil.which("gcc")


def _until_dead(pid: int) -> None:
    """Wait until a killed process has ended, even if it is still a zombie."""
    stat = Path(f"/proc/{pid}/stat")
    for _ in range(60_000):
        try:
            if stat.read_text().rpartition(")")[2].split()[0] in "ZX":
                return
        except (FileNotFoundError, ProcessLookupError):
            return
        time.sleep(0.001)
    raise TimeoutError(f"process {pid} does not die")
