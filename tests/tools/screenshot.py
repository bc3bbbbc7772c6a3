"""Makes the README's picture of the inbox from sample data: `make screenshot`."""

import json
import random
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.browser import chromium
from tests.serving import ROOT, Server, serving
from webhook_api.cli.provider_formats import sample_bodies

PICTURE = ROOT / "webhook_api" / "inbox" / "screenshot.png"
_MESSAGES = 600
_DAYS = 30


def fill(server: Server, count: int = _MESSAGES) -> None:
    """Deliver samples of the last month, most of them of the last days."""
    choose = random.Random(1)
    now = datetime.now(UTC)
    with server.client() as client:
        for body in sample_bodies(count):
            ago = timedelta(days=_DAYS * choose.random() ** 2)
            ts = (now - ago).isoformat(timespec="milliseconds").replace("+00:00", "Z")
            client.deliver(**json.loads(body) | {"ts": ts})


def main() -> None:
    """Write the picture."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with serving(folder, WEB_CONCURRENCY=1) as server, chromium(folder / "profile") as browser:
            fill(server)
            browser.set_window_size(1200, 940)
            browser.get(f"http://127.0.0.1:{server.port}/inbox")
            browser.save_screenshot(str(PICTURE))
    print(PICTURE.relative_to(ROOT), PICTURE.stat().st_size, "bytes")  # noqa: T201


if __name__ == "__main__":
    main()
