"""The service under Gunicorn: start, stop, kills, changed secrets; exact counts through it all."""

import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.builders import SECRET, samples
from tests.serving import (
    FAULTY,
    ROOT,
    Load,
    Server,
    database_in,
    free_port,
    serving,
    start,
    wait_until,
)
from tests.tools.kill_rounds import kill_rounds
from webhook_api.server.master import drop_new_connections
from webhook_api.server.metrics_folder import make_folder, place_of_folder, remove_left_behind
from webhook_api.store.database import Database

EXIT_CONFIG = 78


def newer_schema(folder: Path) -> dict[str, object]:
    Database(database_in(folder)).prepare(create=True)
    with closing(sqlite3.connect(database_in(folder))) as connection:
        connection.execute("PRAGMA user_version = 99")
    return {}


def garbage(folder: Path) -> dict[str, object]:
    database_in(folder).parent.mkdir()
    database_in(folder).write_bytes(b"garbage" * 1000)
    return {}


def file_for_folder(folder: Path) -> dict[str, object]:
    (folder / "data").write_text("")
    return {}


def setting(**values: object) -> Callable[[Path], dict[str, object]]:
    return lambda _folder: values


@pytest.mark.parametrize(
    ("arrange", "reason"),
    [
        (setting(WEBHOOK_SECRET=""), "WEBHOOK_SECRET is not set"),
        (setting(PORT="eighty"), "PORT"),
        (setting(WEB_CONCURRENCY="two"), "WEB_CONCURRENCY"),
        (setting(DATABASE_URL=f"sqlite:///{'x' * 300}"), "File name too long"),
        (newer_schema, "newer version"),
        (garbage, "not a database"),
        (file_for_folder, "start failed: DATABASE_URL leads to"),
    ],
    ids=["secret", "port", "processes", "name", "schema", "garbage", "folder"],
)
def test_a_start_that_fails_prints_one_line(
    tmp_path: Path, arrange: Callable[[Path], dict[str, object]], reason: str
) -> None:
    settings = {"PORT": free_port(), **arrange(tmp_path)}

    status = start(tmp_path, [], **settings).wait(60)

    lines = [json.loads(line) for line in (tmp_path / "stdout").read_text().splitlines()]
    failures = [line for line in lines if line["level"] == "CRITICAL"]
    assert status == EXIT_CONFIG
    assert len(failures) == 1
    assert reason in failures[0]["message"]
    assert not any("traceback" in line for line in lines)
    assert not any("Booting worker" in line["message"] for line in lines)
    assert (tmp_path / "stderr").read_text() == ""


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--certfile", "cert.pem", "--keyfile", "key.pem"], "TLS is not served here"),
        (["--preload"], "cross a fork"),
        (["--reuse-port"], "reset connections"),
        (["--access-logfile", "-"], "a JSON object"),
        (["--proxy-protocol"], "only HTTP/1.1"),
        (["--threads", "3"], "WEB_THREADS"),
    ],
)
def test_a_setting_of_gunicorn_that_breaks_a_promise_is_refused(
    tmp_path: Path, arguments: list[str], reason: str
) -> None:
    status = start(tmp_path, arguments, PORT=free_port()).wait(60)

    lines = [json.loads(line) for line in (tmp_path / "stdout").read_text().splitlines()]
    assert status == EXIT_CONFIG
    assert [reason in line["message"] for line in lines if line["level"] == "CRITICAL"] == [True]
    assert (tmp_path / "stderr").read_text() == ""


def test_a_listener_that_drops_new_connections_keeps_the_others() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
        with socket.create_connection(address, 5) as queued:
            if not drop_new_connections(listener):
                pytest.skip("a process may not set a filter here")
            with pytest.raises(TimeoutError):
                socket.create_connection(address, 0.3).close()
            queued.sendall(b"sent later")
            accepted, _ = listener.accept()
            with accepted:
                assert accepted.recv(100) == b"sent later"
            listener.settimeout(0)
            with pytest.raises(BlockingIOError):
                listener.accept()


def test_a_new_master_takes_over_without_a_failed_delivery(tmp_path: Path) -> None:
    def number_of(message: str) -> int:
        return sum(message in line.get("message", "") for line in server.log)

    with serving(tmp_path, WEB_CONCURRENCY=2) as server, Load(server, "usr2") as load:
        server.process.send_signal(signal.SIGUSR2)
        wait_until(lambda: number_of("Booting worker") == 4)
        started = [line["message"] for line in server.log if "Listening" in line.get("message", "")]
        new = int(started[-1].rpartition("(")[2].rstrip(")"))
        try:
            status = server.stop()
            after = len(load.acknowledged) + 100
            wait_until(lambda: len(load.acknowledged) > after)
        finally:
            load.end()
            os.kill(new, signal.SIGTERM)
        wait_until(lambda: number_of("Shutting down: Master") == 2)
        assert load.acknowledged <= server.ids()

    assert (status, load.failures, set(load.statuses)) == (0, [], {200})
    assert (tmp_path / "stderr").read_text() == ""


def has_made_its_files(place: Path, worker: int) -> bool:
    return len([*place.glob(f"*/*_{worker}.db")]) == 3  # counters, gauges and histograms


def test_workers_start_where_the_folder_of_the_metrics_cannot_be_made_again(
    tmp_path: Path,
) -> None:
    place = tmp_path / "metrics"
    place.mkdir()
    with serving(tmp_path, FAULTY, WEB_CONCURRENCY=2, METRICS_IN=place) as server:
        # A worker that begins has to find the folder where the master found it.
        wait_until(lambda: has_made_its_files(place, 0) and has_made_its_files(place, 1))
        shutil.rmtree(place)
        place.write_text("of somebody else")
        for _ in server.workers:
            server.kill_worker()
        statuses = server.deliver_all(f"m{number}" for number in range(20))
        exposition = server.get("/metrics")
        status = server.stop()

    assert (statuses, exposition.status, status) == ({200: 20}, 200, 0)
    told = [line.get("message", "") for line in server.log if line["level"] == "ERROR"]
    assert sum(line.startswith("no folder for the metrics") for line in told) == 2
    assert not any("traceback" in line for line in server.log)
    assert (tmp_path / "stderr").read_text() == ""


def metrics_folder(server: Server) -> Path:
    told = [line["message"] for line in server.log if "metrics in" in line.get("message", "")]
    return Path(told[0].rpartition(" ")[2])


def scraped(server: Server) -> dict[str, float]:
    """Return the sums that several workers must agree on."""
    exposition = server.get("/metrics").body.decode()
    wanted = r'^(webhook_requests_total\{result="\w+"\}|commit_batch_messages_sum) (\S+)$'
    return {name: float(value) for name, value in re.findall(wanted, exposition, re.MULTILINE)}


def test_counts_are_exact_with_three_workers_and_after_one_of_them_was_killed(
    tmp_path: Path,
) -> None:
    ids = [f"m{number}" for number in range(900)]
    with serving(tmp_path, WEB_CONCURRENCY=3) as server:
        statuses = server.deliver_all([*ids, *ids[:100], *["same"] * 50], threads=50)
        scrapes = [scraped(server) for _ in range(10)]
        (metrics_folder(server) / "counter_99.db").touch()  # as a worker makes it when it begins
        server.kill_worker()
        scrapes += [scraped(server) for _ in range(10)]
        server.deliver_all(f"again{number}" for number in range(30))
        last = scraped(server)
        some = server.get("/metrics?name[]=webhook_requests_total&name[]=wal_size_bytes").body
        stored = server.ids()
        status = server.stop()

    assert statuses == {200: 1050}
    assert scrapes[0]['webhook_requests_total{result="created"}'] == 901
    assert scrapes[0]['webhook_requests_total{result="duplicate"}'] == 149
    assert all(scrape == scrapes[0] for scrape in scrapes)
    assert last['webhook_requests_total{result="created"}'] == 931
    assert len(stored) == 931
    lines = some.decode().splitlines()
    assert 'webhook_requests_total{result="created"} 931.0' in lines
    families = [line.split()[2] for line in lines if line.startswith("# TYPE")]
    assert families == ["webhook_requests_total", "wal_size_bytes"]
    request_ids = [line["request_id"] for line in server.log if "request_id" in line]
    assert len(request_ids) == len(set(request_ids)) > 1000
    assert all(re.fullmatch("[0-9a-f]{32}", one) for one in request_ids)
    assert status == 0
    started = [line for line in server.log if "sqlite" in line.get("message", "")]
    assert sqlite3.sqlite_version in started[0]["message"]
    assert (tmp_path / "stderr").read_text() == ""


def test_sigterm_under_load_answers_what_is_in_flight_and_loses_nothing(tmp_path: Path) -> None:
    with serving(tmp_path, WEB_CONCURRENCY=2) as server, Load(server, "load") as load:
        load.more(50)
        started = time.monotonic()
        server.process.terminate()
        status = server.process.wait(60)
        took = time.monotonic() - started

    accepted = [line for line in server.log if line.get("path") == "/webhook"]
    assert status == 0
    assert took < 30
    assert load.statuses == {200: len(load.acknowledged)}
    assert len(load.acknowledged) > 20
    # None was reset or closed without an answer.
    assert {type(failure) for failure in load.failures} <= {ConnectionRefusedError}
    # Each delivery that reached the application was answered, and its sender read the answer.
    assert len(accepted) == len(load.acknowledged)
    assert load.acknowledged <= server.ids()
    assert server.database.with_name("app.db-wal").stat().st_size == 0


def test_a_worker_that_gets_sigterm_before_it_has_handlers_stops(tmp_path: Path) -> None:
    with serving(tmp_path, FAULTY, WEB_CONCURRENCY=1, SIGTERM_ONCE=tmp_path / "once") as server:
        wait_until(lambda: sum("Booting" in line.get("message", "") for line in server.log) == 2)

        assert server.deliver().status == 200


def test_hup_under_load_fails_no_delivery(tmp_path: Path) -> None:
    with serving(tmp_path, WEB_CONCURRENCY=2) as server:
        before = server.wait_for_workers(2)
        with Load(server, "load") as load:
            time.sleep(0.3)
            server.process.send_signal(signal.SIGHUP)
            server.wait_for_workers(2, but=before)
            time.sleep(0.3)
        counts = scraped(server)

        assert load.failures == []
        assert load.statuses == {200: len(load.acknowledged)}
        assert load.acknowledged == server.ids()
        assert counts['webhook_requests_total{result="created"}'] == len(load.acknowledged)


def test_no_acknowledged_message_is_lost_when_all_processes_are_killed(tmp_path: Path) -> None:
    rounds = list(kill_rounds(tmp_path, rounds=3, load_s=0.4))

    assert all(round_.acknowledged > 0 for round_ in rounds)
    assert [(round_.lost, round_.differences) for round_ in rounds] == [(0, [])] * 3


def test_the_successor_of_a_killed_master_starts_at_the_first_try(tmp_path: Path) -> None:
    with serving(tmp_path, WEB_CONCURRENCY=2) as server, Load(server, "load") as load:
        wait_until(lambda: len(load.acknowledged) > 20)
        orphans = server.workers
        server.process.kill()
        server.process.wait(60)
        killed = time.monotonic()
        with serving(tmp_path, WEB_CONCURRENCY=1, PORT=server.port):
            wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in orphans))
            took = time.monotonic() - killed
            # By now it has the load to itself.
            before = len(load.acknowledged)
            wait_until(lambda: len(load.acknowledged) > before + 20)

    assert took < 30
    assert not [line for line in server.log if "in use" in line.get("message", "")]
    assert load.acknowledged <= server.ids()


MAKE_FOLDER = """
import sys; from pathlib import Path; from webhook_api.server.metrics_folder import make_folder
print(make_folder(Path(sys.argv[1])))
"""


def test_only_the_metrics_of_masters_that_are_gone_are_removed(tmp_path: Path) -> None:
    used = make_folder(tmp_path)
    (tmp_path / "webhook-metrics-older").mkdir()
    (tmp_path / "webhook-metrics-file").write_text("")
    (tmp_path / "other").mkdir()
    made = subprocess.run(
        [sys.executable, "-c", MAKE_FOLDER, tmp_path], cwd=ROOT, capture_output=True, check=True
    )
    left_behind = Path(made.stdout.decode().strip())
    existed = left_behind.is_dir()

    remove_left_behind(tmp_path)

    assert existed
    assert {path.name for path in tmp_path.iterdir()} == {
        used.name, "webhook-metrics-older", "webhook-metrics-file", "other",
    }  # fmt: skip


def test_the_metrics_are_in_shared_memory_if_that_has_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_space = place_of_folder(str(tmp_path))
    monkeypatch.setattr(shutil, "disk_usage", lambda _folder: SimpleNamespace(free=1_000_000))
    full, missing = place_of_folder(str(tmp_path)), place_of_folder(None)

    assert with_space == tmp_path
    assert full == missing == Path(tempfile.gettempdir())


def test_a_worker_starts_though_the_folder_of_the_metrics_was_removed(tmp_path: Path) -> None:
    with serving(tmp_path, WEB_CONCURRENCY=1) as server:
        shutil.rmtree(metrics_folder(server))
        server.kill_worker()

        assert server.deliver(message_id="after").status == 200
        assert (
            'webhook_requests_total{result="created"} 1.0' in server.get("/metrics").body.decode()
        )
        assert server.stop() == 0


def test_every_line_from_start_to_stop_is_json(tmp_path: Path) -> None:
    with serving(tmp_path, WEB_CONCURRENCY=1, LOG_LEVEL="DEBUG") as server:
        server.get("/health/ready")
        server.get("/nowhere")
        status = server.stop()

    lines: list[dict[str, Any]] = server.log
    assert status == 0
    assert {"Listening at", "Handling signal", "Shutting down"} <= {
        phrase
        for line in lines
        for phrase in ("Listening at", "Handling signal", "Shutting down")
        if phrase in line.get("message", "")
    }
    assert all({"ts", "level"} <= line.keys() for line in lines)
    assert (tmp_path / "stderr").read_text() == ""


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
