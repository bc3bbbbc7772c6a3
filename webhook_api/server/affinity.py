"""One core for all threads of a worker: they hand the interpreter lock to each other, and from one
core to another that takes long (measured: tests/benchmarks/README.md)."""

import os
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from random import random
from typing import Self

_LOOK_S = 2.0  # between two looks at who uses the cores
_CROWDED = 0.4  # of a core's time, used by other programs
_IDLE = 0.3  # of a core's time, used by anybody
_STAT = Path("/proc/stat")


def better_core(core: int, home: int, own: float, busy: Mapping[int, float]) -> int:
    """Return the core to go on with, for a process that is held to `core`.

    `busy` is the share of time that each core had work, `own` what this process used of its own.
    A process that has moved goes back to `home` if it is crowded, too, and no core is idle:
    otherwise two of one service could stay together while a program has the other core alone.
    """
    if busy[core] - own <= _CROWDED:
        return core
    idlest = min(busy, key=lambda other: busy[other])
    return idlest if busy[idlest] < _IDLE else home


class Core:
    """The core that all threads of this process are held to, until it is crowded."""

    def __init__(self, home: int, busy_s: dict[int, float]) -> None:
        self._home = self._core = home
        self._busy_s = busy_s  # of each core that may be used, when it was last looked at
        self._own_s = time.process_time()
        self._looked_at = time.monotonic()
        _hold(home)

    @classmethod
    def of_worker(cls, number: int, workers: int) -> Self | None:
        """Hold this process to a core, the worker's `number` (from 0) says which.

        None, and nothing is done, if there are fewer cores than workers, or only one, or if the
        system has no such call or does not say how busy its cores are.
        """
        if sys.platform != "linux":
            return None
        allowed = sorted(os.sched_getaffinity(0))
        busy_s = _busy_s()
        if len(allowed) < max(2, workers) or not all(busy_s.get(core) for core in allowed):
            return None
        return cls(allowed[number % len(allowed)], {core: busy_s[core] for core in allowed})

    def look(self) -> None:
        """Every two seconds, move to a better core if others need this one."""
        now = time.monotonic()
        passed_s = now - self._looked_at
        if passed_s < _LOOK_S:
            return
        busy_s, own_s = self._busy_s | _busy_s(), time.process_time()
        busy = {core: (busy_s[core] - s) / passed_s for core, s in self._busy_s.items()}
        own = (own_s - self._own_s) / passed_s
        self._looked_at, self._own_s = now, own_s
        self._busy_s = {core: busy_s[core] for core in busy}
        core = better_core(self._core, self._home, own, busy)
        # One of two that share a core is to move, and not both: each tosses a coin.
        # What somebody else has set (taskset, a container's cpuset) stays.
        ours = os.sched_getaffinity(0) == {self._core}
        if core != self._core and ours and random() < 0.5:  # noqa: S311
            _hold(core)
            self._core = core


def _busy_s() -> dict[int, float]:
    """Return the seconds that each core has worked since the start; empty if nobody says.

    That is user, nice and system (proc_stat(5)): not interrupts, which may be ours.
    """
    lines = []
    with suppress(OSError):
        lines = _STAT.read_text().splitlines()
    fields = [line.split() for line in lines if line.startswith("cpu") and line[3].isdigit()]
    ticks = os.sysconf("SC_CLK_TCK")
    return {int(name[3:]): sum(map(int, rest[:3])) / ticks for name, *rest in fields}


def _hold(core: int) -> None:
    """Hold all threads to `core`; those that are started later are held as their creator is."""
    held: set[Path] = set()
    while more := set(Path("/proc/self/task").iterdir()) - held:
        for thread in more:
            with suppress(OSError):  # It has ended, or the core is gone.
                os.sched_setaffinity(int(thread.name), {core})
        held |= more
