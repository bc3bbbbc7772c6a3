"""Keeps all threads of a worker on one core. They hand the interpreter lock to each other, which
takes longer between two cores (measured: tests/benchmarks/README.md)."""

import os
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from random import random
from typing import Self

_LOOK_S = 2.0  # between two looks at who uses the cores
_CROWDED = 0.4  # a core is crowded if other programs use more of its time
_IDLE = 0.3  # a core is idle if all programs together use less of its time
_STAT = Path("/proc/stat")


def better_core(core: int, home: int, own: float, busy: Mapping[int, float]) -> int:
    """Return the core for a process that is on `core` now.

    `busy` is the share of time that each core worked, and `own` this process's share of `core`.
    If `core` is crowded and no core is idle, the process goes back to `home`: otherwise two
    workers could share one core while another program has the other core alone.
    """
    if busy[core] - own <= _CROWDED:
        return core
    idlest = min(busy, key=lambda other: busy[other])
    return idlest if busy[idlest] < _IDLE else home


class Core:
    """The core that all threads of this process run on, until it is crowded."""

    def __init__(
        self,
        home: int,
        busy_s: dict[int, float],
        stat: Path,
        look_s: float,
        chance: Callable[[], float],
    ) -> None:
        self._home = self._core = home
        self._busy_s = busy_s  # seconds that each allowed core had worked at the last look
        self._stat = stat
        self._look_s = look_s
        self._chance = chance
        self._own_s = time.process_time()
        self._looked_at = time.monotonic()
        _hold(home)

    @classmethod
    def of_worker(
        cls,
        number: int,
        workers: int,
        *,
        stat: Path = _STAT,
        look_s: float = _LOOK_S,
        chance: Callable[[], float] = random,
    ) -> Self | None:
        """Keep this process on a core, which follows from the worker's `number` (from 0).

        `stat` says how busy the cores are, and is read every `look_s` seconds. `chance` returns a
        number from 0 to 1; the process moves only if it is below 0.5.

        Do nothing and return None if there are fewer cores than workers, or only one core, or if
        the system does not support this or does not say how busy its cores are.
        """
        if sys.platform != "linux":
            return None
        allowed = sorted(os.sched_getaffinity(0))
        busy_s = _busy_s(stat)
        if len(allowed) < max(2, workers) or not all(busy_s.get(core) for core in allowed):
            return None
        known = {core: busy_s[core] for core in allowed}
        return cls(allowed[number % len(allowed)], known, stat, look_s, chance)

    def look(self) -> None:
        """Move to a better core if others need this one, unless the last look was just now."""
        now = time.monotonic()
        passed_s = now - self._looked_at
        if passed_s < self._look_s:
            return
        busy_s, own_s = self._busy_s | _busy_s(self._stat), time.process_time()
        busy = {core: (busy_s[core] - s) / passed_s for core, s in self._busy_s.items()}
        own = (own_s - self._own_s) / passed_s
        self._looked_at, self._own_s = now, own_s
        self._busy_s = {core: busy_s[core] for core in busy}
        core = better_core(self._core, self._home, own, busy)
        # If two workers share a core, only one should move, so each moves with a chance of 1/2.
        # If somebody else has set the cores since (taskset, a container's cpuset), do nothing.
        ours = os.sched_getaffinity(0) == {self._core}
        if core != self._core and ours and self._chance() < 0.5:
            _hold(core)
            self._core = core


def _busy_s(stat: Path) -> dict[int, float]:
    """Return the seconds that each core has worked since the start; empty if that is unknown.

    Only user, nice and system (proc_stat(5)), without interrupts, which we may have caused.
    """
    lines = []
    with suppress(OSError):
        lines = stat.read_text().splitlines()
    fields = [line.split() for line in lines if line.startswith("cpu") and line[3].isdigit()]
    ticks = os.sysconf("SC_CLK_TCK")
    return {int(name[3:]): sum(map(int, rest[:3])) / ticks for name, *rest in fields}


def _hold(core: int) -> None:
    """Keep all threads on `core`; a thread that is started later inherits it."""
    held: set[Path] = set()
    while more := set(Path("/proc/self/task").iterdir()) - held:
        for thread in more:
            with suppress(OSError):  # It has ended, or the core is gone.
                os.sched_setaffinity(int(thread.name), {core})
        held |= more
