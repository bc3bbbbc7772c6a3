"""Each worker on its own core: which core is chosen, and where the threads really run."""

import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serving import Server, serving, wait_until
from webhook_api.server.affinity import Core, better_core


@pytest.mark.parametrize(
    ("own", "busy", "expected"),
    [
        (0.9, {0: 1.0, 1: 0.0}, 0),
        (0.0, {0: 0.4, 1: 0.0}, 0),
        (0.5, {0: 1.0, 1: 0.1}, 1),
        (0.5, {0: 1.0, 1: 0.3}, 0),
        (0.1, {0: 0.9, 1: 0.29, 2: 0.1, 3: 0.2}, 2),
    ],
    ids=["ours alone", "room for both", "crowded", "crowded everywhere", "the idlest"],
)
def test_a_worker_moves_when_others_crowd_its_core_and_one_is_idle(
    own: float, busy: dict[int, float], expected: int
) -> None:
    assert better_core(0, 0, own, busy) == expected


def test_a_worker_that_has_moved_goes_home_if_it_is_crowded_there_too() -> None:
    assert better_core(1, 0, 0.5, {0: 1.0, 1: 1.0}) == 0
    assert better_core(1, 0, 0.9, {0: 1.0, 1: 1.0}) == 1


def affinities(pid: int) -> set[frozenset[int]]:
    """Return the sets of cores that the threads of a process may use."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return {frozenset(os.sched_getaffinity(int(thread.name))) for thread in threads}


needs_two_cores = pytest.mark.skipif(
    sys.platform != "linux" or len(os.sched_getaffinity(0)) < 2, reason="needs two cores of Linux"
)


def after_deliveries(server: Server) -> list[set[frozenset[int]]]:
    server.deliver_all(map(str, range(20)), threads=8)
    return [affinities(pid) for pid in server.workers]


@needs_two_cores
def test_all_threads_of_a_worker_are_on_one_core(tmp_path: Path) -> None:
    all_cores = {frozenset(os.sched_getaffinity(0))}
    with serving(tmp_path, WEB_CONCURRENCY=2) as server:
        wait_until(
            lambda: len(server.workers) == 2
        )  # the first is ready before the second is there
        wait_until(lambda: all(affinities(pid) != all_cores for pid in server.workers))
        one, other = after_deliveries(server)
        master = affinities(server.process.pid)

    assert [len(cores) for [cores] in (one, other)] == [1, 1]
    assert master == all_cores


@needs_two_cores
def test_a_worker_may_use_all_cores_if_set_so(tmp_path: Path) -> None:
    with serving(tmp_path, WEB_CONCURRENCY=1, CPU_AFFINITY="off") as server:
        assert after_deliveries(server) == [{frozenset(os.sched_getaffinity(0))}]


@pytest.fixture
def cores() -> Iterator[list[int]]:
    """The cores of this process; it may use all of them again afterwards."""
    cores = os.sched_getaffinity(0)
    yield sorted(cores)
    for thread in Path("/proc/self/task").iterdir():
        os.sched_setaffinity(int(thread.name), cores)


@needs_two_cores
def test_each_worker_starts_on_a_core_of_its_own(cores: list[int]) -> None:
    for number, core in enumerate(cores):
        os.sched_setaffinity(0, cores)
        assert Core.of_worker(number, len(cores))
        assert os.sched_getaffinity(0) == {core}


@needs_two_cores
def test_workers_are_not_kept_on_cores_if_these_are_too_few_or_their_load_is_unknown(
    cores: list[int], tmp_path: Path
) -> None:
    zeros = tmp_path / "zeros"
    zeros.write_text("".join(f"cpu{core} 0 0 0 0\n" for core in cores))

    assert Core.of_worker(0, len(cores) + 1) is None
    assert Core.of_worker(0, 1, stat=tmp_path / "absent") is None
    assert Core.of_worker(0, 1, stat=zeros) is None

    assert os.sched_getaffinity(0) == set(cores)


@needs_two_cores
def test_all_threads_move_unless_somebody_else_has_set_the_cores(
    cores: list[int], tmp_path: Path
) -> None:
    stat = tmp_path / "stat"

    def crowd(crowded: int) -> None:
        """Pretend that another program has long used this core, and that the others are idle."""
        lines = [f"cpu{core} {10**6 if core == crowded else 1} 0 0 0\n" for core in cores]
        stat.write_text("cpu 1 1 1 1\n" + "".join(lines))

    ended = threading.Event()
    thread = threading.Thread(target=ended.wait)
    thread.start()
    crowd(cores[1])
    core = Core.of_worker(0, 2, stat=stat, look_s=0, chance=lambda: 0.0)
    assert core
    assert affinities(os.getpid()) == {frozenset([cores[0]])}

    stat.write_text(stat.read_text().replace(f"cpu{cores[0]} 1 ", f"cpu{cores[0]} 900000 "))
    core.look()

    (moved,) = affinities(os.getpid())
    assert moved != {cores[0]}
    os.sched_setaffinity(0, cores)
    crowd(min(moved))
    core.look()
    assert os.sched_getaffinity(0) == set(cores)
    ended.set()
    thread.join()
