"""Power cuts and failing disks: every acknowledged message is on disk (`tests.tools.powercut`)."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.serving import ROOT, inherited
from tests.tools.powercut.disk import Names
from tests.tools.powercut.images import cut_often
from tests.tools.powercut.record import read_record
from tests.tools.powercut.rig import Rig
from tests.tools.powercut.scenarios import SCENARIOS, fresh
from tests.tools.powercut.shim import Calls, Shim, build, why_not

pytestmark = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))

LOAD_S = 0.8
IMAGES = 10


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("powercut"))


@pytest.mark.parametrize(
    ("name", "acknowledged", "checkpoints", "failed_syncs"),
    [
        # More checkpoints than those of the start and the end.
        ("load, 1 worker", 100, 3, 0), ("import beside load, 2 workers", 100, 3, 0),
        ("WAL sync fails once, 1 worker", 0, 0, 1),
        ("WAL sync fails for a time, 2 workers", 0, 0, 1), ("folder sync fails", 0, 0, 1),
        ("short writes", 0, 0, 0),
        # What is only in the page cache after a kill.
        ("killed in a sync, 2 workers", 0, 0, 0), ("all killed after a failed sync", 0, 0, 0),
    ],
)  # fmt: skip
def test_after_a_power_cut_all_that_was_acknowledged_is_there(
    library: Path, tmp_path: Path, name: str, acknowledged: int, checkpoints: int, failed_syncs: int
) -> None:
    workers, scenario = SCENARIOS[name]
    rig = Rig(library, tmp_path / "service", workers=workers)

    scenario(rig, LOAD_S)

    rig.check_record()
    found = cut_often(read_record(rig.shim.record), rig.database, IMAGES, seed=1)
    assert found.bad == []
    assert found.acknowledged > acknowledged
    assert found.checkpoints > checkpoints
    assert found.failed_syncs >= failed_syncs


@pytest.mark.parametrize("names", Names)
def test_a_new_database_is_there_after_its_first_acknowledgement(
    library: Path, tmp_path: Path, names: Names
) -> None:
    """Its folder is new as well, like after a fresh checkout."""
    rig = Rig(library, tmp_path / "service", workers=1, made=False)

    fresh(rig, 0.3)

    events = read_record(rig.shim.record)
    assert cut_often(events, rig.database, 10, seed=1, names=names).bad == []


@pytest.mark.parametrize("calls", [Calls.WRITE, Calls.SYNC], ids=["write", "sync"])
def test_whichever_write_or_sync_fails_no_message_is_lost_and_the_next_succeeds(
    library: Path, tmp_path: Path, calls: Calls
) -> None:
    shim = Shim(library, tmp_path / "shim", tmp_path.resolve() / "app.db")

    run = subprocess.run(
        [sys.executable, "-m", "tests.tools.powercut.each_call", str(calls.name)],
        cwd=ROOT,
        env=inherited() | shim.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert run.returncode == 0, run.stderr
    rounds, refused = (int(number) for number in run.stdout.split())
    assert rounds > 5
    assert refused >= rounds // 4
