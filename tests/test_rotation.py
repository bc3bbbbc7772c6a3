"""The secret is changed under load: no delivery is refused, and no mistake ends the service."""

import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests.builders import SECRET, samples
from tests.serving import Load, Server, serving, wait_until

NEW = "the new secret"


serving_two = partial(serving, WEB_CONCURRENCY=2, WEBHOOK_SECRET="")


def hup(server: Server, change: Callable[[], object]) -> None:
    """Make a change, send SIGHUP, and return when all workers have been replaced."""
    before = server.wait_for_workers(2)
    change()
    server.process.send_signal(signal.SIGHUP)
    server.wait_for_workers(2, but=before)


def test_a_change_of_the_secret_under_load_refuses_no_delivery(tmp_path: Path) -> None:
    current, previous = tmp_path / "secret", tmp_path / "previous"
    current.write_text(f"{SECRET}\n")
    previous.touch()

    def begin() -> None:
        previous.write_text(current.read_text())
        current.write_text(NEW)

    with serving_two(
        tmp_path, WEBHOOK_SECRET_FILE=current, WEBHOOK_SECRET_PREVIOUS_FILE=previous
    ) as server:
        with Load(server, "old", threads=4) as old:
            wait_until(lambda: len(old.acknowledged) > 20)
            hup(server, begin)
            seen = len(old.acknowledged)
            # The provider is told, and what it had on the way still comes under the old one.
            with Load(server, "new", threads=4, secret=NEW) as new:
                wait_until(lambda: len(old.acknowledged) > seen + 20 and len(new.acknowledged) > 20)
        with Load(server, "newer", threads=4, secret=NEW) as newer:
            wait_until(lambda: len(newer.acknowledged) > 20)
            hup(server, lambda: previous.write_text(""))
            seen = len(newer.acknowledged)
            wait_until(lambda: len(newer.acknowledged) > seen + 20)
        refused = server.deliver().status
        series = samples(server.get("/metrics").body.decode())
        stored = server.ids()

    loads = (old, new, newer)
    assert [load.failures for load in loads] == [[], [], []]
    assert [set(load.statuses) for load in loads] == [{200}] * 3
    assert stored == set().union(*(load.acknowledged for load in loads))
    assert refused == 401
    by_key = [
        series[f'webhook_signatures_total{{key="{key}",provider="webhook"}}']
        for key in ("current", "previous")
    ]
    assert sum(by_key) == len(stored)
    assert by_key[1] > 20


def test_a_secret_that_cannot_be_read_at_hup_is_one_line_and_the_old_one_stays(
    tmp_path: Path,
) -> None:
    current = tmp_path / "secret"
    current.write_text(SECRET)

    with serving_two(tmp_path, WEBHOOK_SECRET_FILE=current) as server:
        hup(server, current.unlink)
        status = server.deliver().status
        # A worker that replaces a dead one has the secret of the others, not the changed file.
        current.write_text(NEW)
        server.kill_worker()
        statuses = {server.deliver(message_id=f"after {number}").status for number in range(8)}
        said = [line for line in server.log if line.get("logger") == "webhook_api.config"]
        hup(server, lambda: None)

        assert status == 200
        assert statuses == {200}
        assert [(line["level"], line["message"]) for line in said] == [
            (
                "ERROR",
                "settings stay as they were: WEBHOOK_SECRET_FILE is"
                f" '{current}': No such file or directory",
            )
        ]
        assert [server.deliver(secret=each).status for each in (SECRET, NEW)] == [401, 200]
        assert SECRET not in str(server.log)
        assert server.stop() == 0
