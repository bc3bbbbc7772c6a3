"""Random requests from the API's description: does each reply of the service fit it?"""

import subprocess
import sys
from pathlib import Path

from tests.serving import ROOT, serving


def test_the_service_does_what_its_description_says(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        url = f"http://127.0.0.1:{server.port}/openapi.json"
        options = "--checks=all --max-examples=3 --seed=1 --continue-on-failure --no-color"
        # OpenAPI cannot say which parameters exclude each other.
        options += " --exclude-checks=positive_data_acceptance"
        run = subprocess.run(
            [sys.executable, "-m", "schemathesis.cli", "run", url, *options.split()],
            cwd=tmp_path,
            env={"SCHEMATHESIS_HOOKS": "tests.schemathesis_hooks", "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )

    assert run.returncode == 0, run.stdout + run.stderr
    # Deliveries of every kind were among them, so the signing worked.
    results = {line.get("result") for line in server.log}
    assert {"created", "duplicate", "invalid_signature", "validation_error"} <= results
    assert not [line for line in server.log if line.get("status", 0) >= 500]
