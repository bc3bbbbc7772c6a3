"""The service after a second of mutated requests; `python -m tests.tools.fuzz` does it longer."""

from pathlib import Path

from tests.serving import QUICK, serving
from tests.tools.fuzz import fuzz


def test_mutated_requests_do_no_harm(tmp_path: Path) -> None:
    with serving(tmp_path, QUICK, WEB_CONCURRENCY=2) as server:
        found = fuzz(server, seconds=1, seed=1)

    assert found.sent > 20
    assert found.statuses[200] > 0
    assert found.workers_lived
    # 501 for a Transfer-Encoding that it does not know. 503 for a search that has no turn, and
    # for deliveries that arrive faster than they can be stored: that depends on the machine.
    assert {status for status in found.statuses if status >= 500} <= {501, 503}
    # 48 MiB for clients, the threads and their heaps; it does not grow from run to run.
    assert found.grew_bytes < 120e6
    assert not [line for line in server.log if "traceback" in line]
    assert (tmp_path / "stderr").read_text() == ""
