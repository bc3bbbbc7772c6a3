"""Faults of a running service's disk: it answers 503 in time, loses nothing, and recovers."""

import fcntl
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.builders import a_message, an_app, encode, signed
from tests.serving import Reply, Server, database_in, serving, wait_until
from webhook_api import close_app, create_app
from webhook_api.config import Config
from webhook_api.routes.health import PROBE_DEADLINE_S
from webhook_api.services import services_of
from webhook_api.store.schema import SCHEMA_VERSION

DEADLINE_S = 3.0
NOISE_S = 10.0  # that a busy machine may add; without its deadline, a request would hang

Fault = Callable[[Server], AbstractContextManager[None]]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One service for all faults, none of which may need it to be started again."""
    folder = tmp_path_factory.mktemp("faults")
    with serving(folder, WEB_CONCURRENCY=2, COMMIT_DEADLINE_S=DEADLINE_S) as server:
        workers = server.wait_for_workers(2)
        yield server
        assert server.workers == workers


@contextmanager
def another_program_writes(server: Server) -> Iterator[None]:
    with closing(sqlite3.connect(server.database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


@contextmanager
def lock_file_is_held(server: Server) -> Iterator[None]:
    with server.database.with_name("app.db.lock").open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def moved(path: Path) -> Iterator[None]:
    away = path.with_name("away")
    path.rename(away)
    yield
    away.rename(path)


def folder_is_away(server: Server) -> AbstractContextManager[None]:
    return moved(server.database.parent)


def file_is_away(server: Server) -> AbstractContextManager[None]:
    return moved(server.database)


@contextmanager
def file_is_empty(server: Server) -> Iterator[None]:
    with moved(server.database):
        server.database.touch()
        yield


@contextmanager
def file_is_garbage(server: Server) -> Iterator[None]:
    content = server.database.read_bytes()
    with server.database.open("r+b", buffering=0) as file:
        file.write(b"\xde\xad\xbe\xef" * (len(content) // 4))
        yield
        file.seek(0)
        file.write(content)


@contextmanager
def table_is_dropped(server: Server) -> Iterator[None]:
    """Drop the table, and then restore a backup."""
    backup = server.database.with_name("backup.db")
    with (
        closing(sqlite3.connect(server.database, isolation_level=None)) as other,
        closing(sqlite3.connect(backup)) as copy,
    ):
        other.backup(copy)
        copy.execute("PRAGMA journal_mode = WAL")
        other.execute("DROP TABLE messages")
    yield
    for name in ("app.db-wal", "app.db-shm"):
        server.database.with_name(name).unlink(missing_ok=True)
    backup.replace(server.database)


def timed(ask: Callable[[], Reply]) -> tuple[Reply, float]:
    started = time.monotonic()
    return ask(), time.monotonic() - started


def deliver_together(server: Server, ids: list[str]) -> list[tuple[Reply, float]]:
    with ThreadPoolExecutor(len(ids)) as threads:
        return list(threads.map(lambda name: timed(lambda: server.deliver(message_id=name)), ids))


def check_that_it_refuses_and_recovers(
    server: Server, fault: AbstractContextManager[None], says: str, reads: set[int]
) -> None:
    """Go through one fault from the outside, as a provider, a probe and a reader see it."""
    name = f"{says}-{time.monotonic()}"
    ids = [f"{name}-{number}" for number in range(6)]
    wait_until(lambda: server.deliver(message_id=f"{name}-before").status == 200)
    known = server.ids()
    log_starts = len(server.log)

    with fault:
        refused = deliver_together(server, ids)
        live, live_s = timed(lambda: server.get("/health/live"))
        ready, ready_s = timed(lambda: server.get("/health/ready"))
        read = {server.get(path).status for path in ("/messages?q=hello", "/stats")}
        metrics = server.get("/metrics")

    for reply, took in refused:
        assert reply.status == 503
        assert int(reply.headers["retry-after"]) > 0
        assert took < DEADLINE_S + NOISE_S
    assert says in refused[0][0].json["detail"]
    assert (live.status, ready.status, metrics.status) == (200, 503, 200)
    assert live_s < NOISE_S
    assert ready_s < PROBE_DEADLINE_S + NOISE_S
    # What it reads first may be a page that SQLite finds malformed.
    assert says in ready.json["detail"] or "malformed" in ready.json["detail"]
    assert read <= reads
    wait_until(lambda: server.get("/health/ready").status == 200)
    wait_until(lambda: server.deliver_all(ids) == {200: len(ids)})  # a repeat is 200 as well
    assert known | set(ids) == server.ids()
    statuses = {line["status"] for line in server.log[log_starts:] if "status" in line}
    assert statuses == {200, 503}


@pytest.mark.parametrize(
    ("fault", "says", "reads"),
    [
        (another_program_writes, "another program", {200}),
        (lock_file_is_held, "another process", {200}),
        (folder_is_away, "No such file or directory", {503}),
        (file_is_away, "No such file or directory", {503}),
        # What a reader has in its cache, it reads: either is right here, and only here.
        (file_is_garbage, "not a database", {200, 503}),
        (table_is_dropped, "messages", {503}),
        (file_is_empty, "not a database", {503}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_fault_is_503_in_time_and_passes(
    server: Server, fault: Fault, says: str, reads: set[int]
) -> None:
    check_that_it_refuses_and_recovers(server, fault(server), says, reads)


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MB in memory, as the database's folder."""
    folder = tmp_path / "data"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("a file system cannot be mounted here: that needs CAP_SYS_ADMIN")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def full(folder: Path) -> Iterator[None]:
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            yield
    filler.unlink()


def test_a_full_disk_is_503_in_time_and_passes(tmp_path: Path, tiny_disk: Path) -> None:
    with serving(tmp_path, WEB_CONCURRENCY=2, COMMIT_DEADLINE_S=DEADLINE_S) as server:
        # Once: what the refused commits have left of the WAL is space for later ones.
        check_that_it_refuses_and_recovers(server, full(tiny_disk), "full", {200})
        stored = server.ids()
        assert server.stop() == 0

        assert server.query("PRAGMA integrity_check") == [("ok",)]
        assert server.ids() == stored


def test_a_disk_that_fills_up_under_load_loses_nothing(tmp_path: Path, tiny_disk: Path) -> None:
    acknowledged = set()
    with serving(tmp_path, WEB_CONCURRENCY=2, COMMIT_DEADLINE_S=DEADLINE_S) as server:
        (tiny_disk / "filler").write_bytes(b"x" * 1_300_000)
        with server.client() as client:
            for number in range(2000):
                status = client.deliver(message_id=f"m{number}", text="x" * 4000).status
                if status != 200:
                    break
                acknowledged.add(f"m{number}")
        assert (status, len(acknowledged) > 5) == (503, True)
        (tiny_disk / "filler").unlink()
        wait_until(lambda: server.deliver(message_id=f"m{number}").status == 200)

        assert acknowledged | {f"m{number}"} == server.ids()


def test_a_disk_that_a_long_read_filled_recovers_when_it_ends(
    tmp_path: Path, tiny_disk: Path
) -> None:
    """SQLite cannot begin its log again during a read; the log must not take the last space."""
    with serving(tmp_path, WEB_CONCURRENCY=2, COMMIT_DEADLINE_S=DEADLINE_S) as server:
        wait_until(lambda: server.deliver(message_id="before").status == 200)
        path = f"file:{tiny_disk / 'app.db'}?mode=ro"
        with closing(sqlite3.connect(path, uri=True, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT * FROM messages").fetchall()
            with server.client() as client:
                stored: list[str] = []
                while client.deliver(message_id=f"m{len(stored)}", text="x" * 2000).status == 200:
                    stored.append(f"m{len(stored)}")
            assert len(stored) > 5
            assert server.get("/health/ready").status == 503

        wait_until(lambda: server.get("/health/ready").status == 200)

        wait_until(lambda: server.deliver(message_id="after").status == 200)
        assert {"before", "after", *stored} == server.ids()


def test_a_read_only_file_system_is_503_and_passes(config: Config, tiny_disk: Path) -> None:
    def remount(mode: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{mode}", str(tiny_disk)], check=True)

    config = replace(config, database_path=tiny_disk / "app.db")
    close_app(an_app(config))
    app = create_app(config)
    body = encode(a_message())
    remount("ro")
    client = app.test_client()

    refused = client.post("/webhook", data=body, headers=signed(body))
    ready, page = client.get("/health/ready"), client.get("/messages")
    services_of(app).database.close()
    remount("rw")
    accepted = client.post("/webhook", data=body, headers=signed(body))

    close_app(app)
    assert (refused.status_code, ready.status_code, page.status_code) == (503, 503, 503)
    assert "Read-only file system" in refused.get_json()["detail"]
    assert accepted.status_code == 200


@pytest.mark.parametrize("fault", [folder_is_away, file_is_away])
def test_a_worker_that_starts_during_a_fault_serves_probes_and_recovers(
    tmp_path: Path, fault: Fault
) -> None:
    with serving(tmp_path, WEB_CONCURRENCY=1, COMMIT_DEADLINE_S=DEADLINE_S) as server:
        wait_until(lambda: server.deliver(message_id="before").status == 200)
        with fault(server):
            server.kill_worker()
            assert server.get("/health/live").status == 200
            assert server.get("/health/ready").status == 503
            assert server.deliver(message_id="after").status == 503
            assert not server.database.exists()
            assert server.database.parent.exists() is (fault is file_is_away)
        wait_until(lambda: server.get("/health/ready").status == 200)

        wait_until(lambda: server.deliver(message_id="after").status == 200)
        assert server.ids() == {"before", "after"}


def test_a_reload_beside_a_newer_schema_does_not_end_the_service(tmp_path: Path) -> None:
    def set_version(version: int) -> None:
        with closing(sqlite3.connect(database_in(tmp_path))) as db:
            db.execute(f"PRAGMA user_version = {version}")

    with serving(tmp_path, WEB_CONCURRENCY=1) as server:
        old = server.workers
        set_version(SCHEMA_VERSION + 1)
        server.process.send_signal(signal.SIGHUP)
        server.wait_for_workers(1, but=old)

        ready, delivery = server.get("/health/ready"), server.deliver(message_id="m")
        assert (ready.status, delivery.status) == (503, 503)
        assert f"expected is {SCHEMA_VERSION}" in ready.json["detail"]

        set_version(SCHEMA_VERSION)
        wait_until(lambda: server.get("/health/ready").status == 200)
        wait_until(lambda: server.deliver(message_id="m").status == 200)
        errors = [line for line in server.log if line["level"] == "ERROR" and "path" not in line]
        assert ["newer version" in line["message"] for line in errors] == [True]
        assert "traceback" not in errors[0]


def test_a_foreign_lock_does_not_keep_the_service_from_stopping(tmp_path: Path) -> None:
    with serving(tmp_path, WEB_CONCURRENCY=2, COMMIT_DEADLINE_S=DEADLINE_S) as server:
        wait_until(lambda: server.deliver(message_id="before").status == 200)
        with lock_file_is_held(server):
            assert server.deliver(message_id="refused").status == 503
            started = time.monotonic()

            status = server.stop()

            assert status == 0
            assert time.monotonic() - started < 60
        assert server.ids() == {"before"}
