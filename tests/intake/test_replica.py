"""ACK_AFTER=replica: nothing is acknowledged before the replica has it, whatever Litestream does.

Litestream's control socket is one of these tests'; `tests/test_replica.py` has the real program.
"""

import json
import shutil
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from tests.intake.commits import Record, group, message, store_one, stored
from tests.serving import wait_until
from webhook_api.errors import Unavailable
from webhook_api.intake import replica as replicas
from webhook_api.intake.group_commit import GroupCommit
from webhook_api.intake.replica import Replica
from webhook_api.models import FeedPosition, FeedQuery
from webhook_api.reading.feed import FeedPart, read_feed
from webhook_api.store.database import Database
from webhook_api.store.files import REPLICATED, beside
from webhook_api.store.messages import StoreResult
from webhook_api.store.positions import create_consumer, replicated_end, start_of

NEW, REPEAT = StoreResult(created=True), StoreResult(created=False)


class Litestream:
    """Answers `POST /sync`. The replica has what was committed when the request was answered."""

    def __init__(self, database: Database, path: Path) -> None:
        self.path = path
        self.uploads = threading.Event()  # while it is not set, an upload hangs
        self.uploads.set()
        self.asked: list[dict[str, Any]] = []
        self.answer: Callable[[BaseHTTPRequestHandler], None] | None = None  # instead of its own
        self.sees_commits = True
        self._database = database
        self._seen = 0
        litestream = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                litestream.handle(self)

            def address_string(self) -> str:
                return "a client"  # a Unix socket has no address

            def log_message(self, *_: object) -> None:
                pass

        self._server = socketserver.ThreadingUnixStreamServer(str(path), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=[0.01], daemon=True).start()

    def handle(self, request: BaseHTTPRequestHandler) -> None:
        length = int(request.headers["Content-Length"])
        self.asked.append({"url": request.path, **json.loads(request.rfile.read(length))})
        self.uploads.wait(60)
        if self.answer:
            self.answer(request)
        else:
            respond(request, {"status": "synced", "replicated_txid": self._replicated()})

    def _replicated(self) -> int:
        if self.sees_commits or not self._seen:
            with self._database.reader() as db:
                (self._seen,) = db.execute(
                    "SELECT 1 + probes + (SELECT count(*) FROM messages) FROM totals"
                ).fetchone()
        return self._seen

    def close(self) -> None:
        self.uploads.set()
        self._server.shutdown()
        self._server.server_close()


def respond(
    request: BaseHTTPRequestHandler, content: object, status: int = 200, *, much: bytes = b""
) -> None:
    body = much or json.dumps(content).encode()
    request.send_response(status)
    request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    request.wfile.write(body)


def send(raw: bytes) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.wfile.write(raw)

    return answer


@pytest.fixture
def litestream(database: Database, tmp_path: Path) -> Iterator[Litestream]:
    with closing(Litestream(database, tmp_path / "s.sock")) as litestream:
        yield litestream


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for the first answer as long as a busy machine may need."""
    monkeypatch.setattr(replicas, "_FIRST_ANSWER_S", 60.0)


@pytest.fixture
def commits(database: Database, record: Record, litestream: Litestream) -> GroupCommit:
    return acknowledging(database, record, litestream.path)


def acknowledging(database: Database, record: Record, path: Path, **others: object) -> GroupCommit:
    database.feed_ends_at_replica = True
    replica = Replica(database, path, lambda _seconds: None)
    return group(database, record, replica=replica, **others)


def later(work: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    """Do `work` in a thread; return that, and the list that will have what it returned."""
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(work()))
    thread.start()
    return thread, results


def feed(database: Database, after: Any = "start") -> FeedPart:
    with database.reader() as db:
        return read_feed(db, FeedQuery(), after, 100, replicated_end(database))


def ids(part: FeedPart) -> list[str]:
    return [one["message_id"] for one in part.messages]


def test_a_delivery_is_acknowledged_when_the_replica_has_it(
    commits: GroupCommit, database: Database, litestream: Litestream
) -> None:
    assert store_one(commits, message(message_id="before")) == NEW
    litestream.uploads.clear()
    before = len(litestream.asked)

    first, acknowledged = later(lambda: store_one(commits, message(message_id="m1")))
    wait_until(lambda: stored(database) == ["before", "m1"])
    wait_until(lambda: len(litestream.asked) == before + 1)
    # The next batch is put on disk meanwhile, and nothing more is asked for; the lock is free.
    second, acknowledged_too = later(lambda: store_one(commits, message(message_id="m2")))
    wait_until(lambda: stored(database) == ["before", "m1", "m2"])
    with database.write_lock(5.0):
        pass

    assert (acknowledged, acknowledged_too) == ([], [])
    assert len(litestream.asked) == before + 1
    assert ids(feed(database)) == ["before"]
    arrivals = database.arrivals()  # who waits for messages looks at this
    litestream.uploads.set()
    first.join(60)
    second.join(60)
    assert (acknowledged, acknowledged_too) == ([NEW], [NEW])
    assert len(litestream.asked) <= before + 2
    assert database.arrivals() != arrivals
    assert ids(feed(database)) == ["before", "m1", "m2"]
    asked = {"url": "/sync", "path": str(database.path), "wait": True}
    assert all(one == asked for one in litestream.asked)


def test_a_repeat_waits_for_the_replica_too(
    database: Database, record: Record, litestream: Litestream
) -> None:
    hurried = acknowledging(database, record, litestream.path, deadline_s=2.0)
    hurried.check(60)
    litestream.uploads.clear()

    for _ in range(2):
        with pytest.raises(Unavailable, match=r"^replica: waited too long for Litestream$"):
            store_one(hurried, message(message_id="m1"))
    assert stored(database) == ["m1"]

    litestream.uploads.set()
    wait_until(lambda: ids(feed(database)) == ["m1"])
    commits = acknowledging(database, record, litestream.path)
    assert store_one(commits, message(message_id="m1")) == REPEAT
    litestream.sees_commits = False
    with pytest.raises(Unavailable, match=r"^replica: Litestream does not see what is committed$"):
        store_one(commits, message(message_id="m1"))


def test_consumers_and_probes_wait_for_the_replica(
    database: Database, record: Record, litestream: Litestream
) -> None:
    commits = acknowledging(database, record, litestream.path, deadline_s=2.0, probe_valid_s=0.0)
    commits.check(60)
    litestream.uploads.clear()

    with pytest.raises(Unavailable, match=r"^replica: waited too long"):
        commits.change(lambda db: create_consumer(db, "a", "start"))
    with pytest.raises(Unavailable, match=r"^replica: waited too long"):
        commits.check(0.1)


def test_a_slow_upload_is_ready_while_deliveries_are_answered_in_time(
    database: Database, record: Record, litestream: Litestream
) -> None:
    commits = acknowledging(database, record, litestream.path, deadline_s=60, probe_valid_s=0.0)
    store_one(commits, message(message_id="m1"))
    litestream.uploads.clear()
    before = len(litestream.asked)
    thread, _ = later(lambda: store_one(commits, message(message_id="m2")))
    wait_until(lambda: len(litestream.asked) > before)

    commits.check(0.01)

    litestream.uploads.set()
    thread.join(60)


WRONG: list[tuple[str, Callable[[BaseHTTPRequestHandler], None]]] = [
    ("no HTTP", send(b"\x00\xff no HTTP at all\r\n\r\n")),
    ("nothing", send(b"")),
    ("half of it", send(b'HTTP/1.0 200 OK\r\nContent-Length: 99\r\n\r\n{"status":"synced"')),
    ("an endless line", send(b"HTTP/1.0 200 OK\r\nX: " + b"x" * 100_000)),
    ("an error", lambda request: respond(request, {"error": "no space left"}, 500)),
    ("an unknown file", lambda request: respond(request, {"error": "database not found"}, 404)),
    ("no JSON", lambda request: respond(request, None, much=b"<html>")),
    ("deep JSON", lambda request: respond(request, None, much=b"[" * 60_000)),
    ("megabytes", lambda request: respond(request, None, much=b" " * 5_000_000)),
    ("another form", lambda request: respond(request, {"ok": True})),
    ("only local", lambda request: respond(request, {"status": "synced_local",
                                                     "replicated_txid": 10**6})),
    ("nothing replicated", lambda request: respond(request, {"status": "synced",
                                                             "replicated_txid": 0})),
    ("a text", lambda request: respond(request, {"status": "synced", "replicated_txid": "9"})),
    ("no number", lambda request: respond(request, {"status": "synced", "txid": 10**6})),
    ("created", lambda request: respond(request, {"status": "synced",
                                                  "replicated_txid": 10**6}, 201)),
]  # fmt: skip


@pytest.mark.parametrize("answer", [one[1] for one in WRONG], ids=[one[0] for one in WRONG])
def test_no_other_answer_acknowledges(
    answer: Callable[[BaseHTTPRequestHandler], None],
    commits: GroupCommit,
    database: Database,
    litestream: Litestream,
) -> None:
    store_one(commits, message(message_id="before"))
    litestream.answer = answer

    with pytest.raises(Unavailable, match=r"^replica: "):
        store_one(commits, message(message_id="m1"))
    assert ids(feed(database)) == ["before"]

    litestream.answer = None
    assert store_one(commits, message(message_id="m1")) == REPEAT
    assert ids(feed(database)) == ["before", "m1"]


@pytest.mark.parametrize("what", ["nothing", "a file", "a folder", "a stale socket"])
def test_without_litestream_nothing_is_acknowledged(
    what: str, database: Database, record: Record, tmp_path: Path
) -> None:
    path = tmp_path / "other.sock"
    if what == "a file":
        path.write_text("")
    elif what == "a folder":
        path.mkdir()
    elif what == "a stale socket":
        Litestream(database, path).close()
    commits = acknowledging(database, record, path)

    with pytest.raises(Unavailable, match=r"^replica: no answer from Litestream: [A-Z]"):
        store_one(commits, message(message_id="m1"))
    with pytest.raises(Unavailable, match=r"^replica: "):
        commits.check(60)

    path.rmdir() if what == "a folder" else path.unlink(missing_ok=True)
    with closing(Litestream(database, path)):
        assert store_one(commits, message(message_id="m1")) in (NEW, REPEAT)


def test_the_first_answer_is_waited_for_in_vain(
    commits: GroupCommit, litestream: Litestream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replicas, "_FIRST_ANSWER_S", 0.3)
    litestream.uploads.clear()

    with pytest.raises(Unavailable, match=r"^replica: Litestream does not answer$"):
        store_one(commits, message(message_id="m1"))


def test_litestream_that_begins_to_count_again_is_believed_from_the_next_batch_on(
    commits: GroupCommit, litestream: Litestream
) -> None:
    litestream.answer = lambda request: respond(
        request, {"status": "synced", "replicated_txid": 10**6 + len(litestream.asked)}
    )
    store_one(commits, message(message_id="m1"))
    litestream.answer = None

    with pytest.raises(Unavailable, match="does not see"):
        store_one(commits, message(message_id="m2"))
    assert store_one(commits, message(message_id="m2")) == REPEAT


def test_a_stop_does_not_wait_for_an_upload(
    database: Database, record: Record, litestream: Litestream
) -> None:
    commits = acknowledging(database, record, litestream.path, deadline_s=2, close_timeout_s=0.1)
    commits.check(60)
    litestream.uploads.clear()
    thread, acknowledged = later(lambda: refusal_of(commits, "m1"))
    wait_until(lambda: stored(database) == ["m1"])

    closing_, closed = later(commits.close)
    closing_.join(60)

    assert closed == [None]
    thread.join(60)
    assert acknowledged == ["replica: waited too long for Litestream"]


def refusal_of(commits: GroupCommit, message_id: str) -> object:
    try:
        return store_one(commits, message(message_id=message_id))
    except Unavailable as error:
        return error.detail


def test_a_database_that_is_replaced_during_an_upload_is_not_acknowledged(
    commits: GroupCommit, database: Database, litestream: Litestream, tmp_path: Path
) -> None:
    store_one(commits, message(message_id="before"))
    copy = tmp_path / "copy.db"
    with database.reader() as db:
        db.execute("VACUUM INTO ?", [str(copy)])
    litestream.uploads.clear()
    before = len(litestream.asked)
    thread, acknowledged = later(lambda: refusal_of(commits, "m1"))
    wait_until(lambda: len(litestream.asked) > before)

    with database.write_lock(), database.files_locked(exclusive=True):
        database.wal_path.unlink()
        beside(database.path, "-shm").unlink()
        copy.rename(database.path)
    litestream.uploads.set()
    thread.join(60)

    assert acknowledged == ["replica: the database was replaced"]
    # The position of m1 proves nothing now; it was not given out.
    assert ids(feed(database)) == ["before"]
    assert store_one(commits, message(message_id="m1")) == NEW
    assert ids(feed(database)) == ["before", "m1"]


def test_the_feed_ends_at_what_any_process_has_uploaded(
    database: Database, record: Record, litestream: Litestream
) -> None:
    commits = [acknowledging(database, record, litestream.path) for _ in range(2)]
    store_one(commits[0], message(message_id="m0"))
    store_one(commits[1], message(message_id="m1"))
    whole = feed(database)
    noted = beside(database.path, REPLICATED)
    kept = noted.read_bytes()

    assert ids(whole) == ["m0", "m1"]
    assert feed(database, "now").position == whole.position
    # What it cannot prove does not count; positions that were given out stay valid.
    for content in (
        b"",
        b"\xff" * 32,
        b"now",
        b"7.aaaaaaaa",
        f"{whole.position.id}.aaaaaaaa".encode(),
    ):
        noted.write_bytes(content)
        with database.reader() as db:
            assert feed(database) == feed(database, "now") == FeedPart([], start_of(db), False)
        assert feed(database, whole.position) == FeedPart([], whole.position, False)
    noted.write_bytes(kept)
    assert feed(database) == whole
    # One that is ahead, in a database that was turned back, is replaced by the next upload; so is
    # what nobody here wrote, however long it is.
    ahead = str(FeedPosition(10**6, "aaaaaaaa")).encode().ljust(32)
    for number, content in enumerate([ahead, b"7" * 200, b"\xff" * 5000]):
        noted.write_bytes(content)
        store_one(commits[0], message(message_id=f"later-{number}"))
        assert ids(feed(database))[-1] == f"later-{number}"
    assert stat_mode(noted) == 0o600


def stat_mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_a_failure_of_the_disk_does_not_name_the_path(
    commits: GroupCommit, database: Database
) -> None:
    store_one(commits, message(message_id="m1"))
    noted = beside(database.path, REPLICATED)
    noted.unlink()
    noted.mkdir()

    assert refusal_of(commits, "m2") == "database: Is a directory"

    noted.rmdir()
    assert store_one(commits, message(message_id="m2")) == REPEAT


def test_one_upload_is_for_all_processes(
    database: Database, record: Record, litestream: Litestream
) -> None:
    processes = [acknowledging(database, record, litestream.path) for _ in range(4)]
    for commits in processes:
        commits.check(60)
    litestream.uploads.clear()
    before = len(litestream.asked)
    first, acknowledged = later(lambda: store_one(processes[0], message(message_id="m0")))
    wait_until(lambda: len(litestream.asked) == before + 1)
    others = [
        later(lambda n=n: store_one(processes[n], message(message_id=f"m{n}")))  # type: ignore[misc]
        for n in (1, 2, 3)
    ]
    wait_until(lambda: len(stored(database)) == 4)
    assert (len(litestream.asked), ids(feed(database))) == (before + 1, [])

    litestream.uploads.set()

    for thread, results in [(first, acknowledged), *others]:
        thread.join(60)
        assert results == [NEW]
    assert len(litestream.asked) == before + 2
    assert len(ids(feed(database))) == 4
    # A repeat has nothing new: it needs an upload of its own.
    litestream.sees_commits = False
    assert refusal_of(processes[0], "m1") == "replica: Litestream does not see what is committed"


def test_a_file_that_was_restored_shows_nothing_until_the_next_upload(
    commits: GroupCommit, database: Database, litestream: Litestream, tmp_path: Path
) -> None:
    store_one(commits, message(message_id="m1"))
    with database.reader() as db:
        db.execute("VACUUM INTO ?", [str(tmp_path / "copy.db")])
    store_one(commits, message(message_id="lost"))
    commits.close()
    database.close()
    shutil.move(tmp_path / "copy.db", database.path)
    for ending in ("-wal", "-shm"):
        beside(database.path, ending).unlink(missing_ok=True)

    assert ids(feed(database)) == []
    again = acknowledging(database, Record(), litestream.path)
    again.check(60)
    again.close()
    assert ids(feed(database)) == ["m1"]
