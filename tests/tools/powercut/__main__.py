"""`python -m tests.tools.powercut 300`: 300 power cuts in each scenario; prints a table.

A second argument chooses the scenarios whose name contains it.
"""

import sys
import tempfile
from pathlib import Path

from tests.tools.powercut.images import Findings, cut_often
from tests.tools.powercut.record import read_record
from tests.tools.powercut.rig import Rig
from tests.tools.powercut.scenarios import SCENARIOS
from tests.tools.powercut.shim import build, why_not

_LOAD_S = 4.0


def main(images: int, wanted: str = "") -> None:
    """Print a line for each scenario; the exit code is 1 if an image was bad."""
    if problem := why_not():
        sys.exit(problem)
    print(  # noqa: T201
        f"{'scenario':38} {'images':>6} {'acknowledged':>12} {'checkpoints':>11}"
        f" {'failed syncs':>12} {'bad':>4}"
    )
    bad = 0
    for number, name in enumerate(name for name in SCENARIOS if wanted in name):
        found = try_scenario(name, images, seed=number)
        bad += len(found.bad)
        print(  # noqa: T201
            f"{name:38} {found.images:6} {found.acknowledged:12} {found.checkpoints:11}"
            f" {found.failed_syncs:12} {len(found.bad):4}"
            + (f"  e.g. {found.bad[-1].problem}" if found.bad else ""),
            flush=True,
        )
    sys.exit(bad > 0)


def try_scenario(name: str, images: int, *, seed: int) -> Findings:
    """Run a scenario, and cut the power at many of its moments."""
    workers, play = SCENARIOS[name]
    with tempfile.TemporaryDirectory() as folder:
        rig = Rig(build(Path(folder)), Path(folder) / "service", workers=workers, seed=seed)
        play(rig, _LOAD_S)
        rig.check_record()
        return cut_often(read_record(rig.shim.record), rig.database, images, seed=seed)


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
