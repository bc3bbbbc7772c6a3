"""The real server for tests: Gunicorn in its own processes, and clients that load it."""

import fcntl
import http.client
import json
import os
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, Self

from tests.builders import SECRET, a_message, encode, signed
from tests.forks import Forked, python

ROOT = Path(__file__).resolve().parent.parent
Process = Forked | subprocess.Popen[bytes]
QUICK = ["--config", "tests/quick.conf.py"]  # it stops soon
FAULTY = ["--config", "tests/faulty.conf.py"]
# With QUICK, for tests of what happens when these times are over. In others a machine that
# stands still for a moment would make the service drop a client.
HURRIED = {"IDLE_S": 1, "RECEIVE_S": 0.6, "SEND_S": 0.6}
ANSWER_S = 30.0  # longer than all deadlines of the service, on a noisy machine as well


class Reply(NamedTuple):
    """An HTTP answer; `json` is None where the body is something else."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        try:
            return json.loads(self.body)
        except ValueError:
            return None


class Client:
    """A keep-alive connection to the server, made again after each failure."""

    def __init__(self, port: int, timeout_s: float = ANSWER_S) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> Reply:
        """Return the answer.

        Raises:
            OSError, http.client.HTTPException: there was none.
        """
        try:
            self._connection.request(method, path, body, headers or {})
            response = self._connection.getresponse()
            content = response.read()
        except BaseException:
            self._connection.close()
            raise
        headers_by_name = {name.lower(): value for name, value in response.getheaders()}
        return Reply(response.status, headers_by_name, content)

    def deliver(self, *, secret: str = SECRET, **fields: Any) -> Reply:
        """Deliver a signed message; `fields` are those of `a_message`."""
        body = encode(a_message(**fields))
        return self.request("POST", "/webhook", body, signed(body, secret))

    def close(self) -> None:
        self._connection.close()


class Service:
    """A service at a port of this machine, however it was started."""

    def __init__(self, port: int) -> None:
        self.port = port

    def client(self, timeout_s: float = ANSWER_S) -> "closing[Client]":
        return closing(Client(self.port, timeout_s))

    def get(self, path: str, timeout_s: float = ANSWER_S) -> Reply:
        with self.client(timeout_s) as client:
            return client.request("GET", path, headers={"Connection": "close"})

    def get_stream(self) -> Reply:
        """Return all messages as NDJSON."""
        headers = {"Accept": "application/x-ndjson", "Connection": "close"}
        with self.client() as client:
            return client.request("GET", "/messages", headers=headers)

    def deliver(self, **fields: Any) -> Reply:
        with self.client() as client:
            return client.deliver(**fields)

    def deliver_all(
        self, message_ids: Iterable[str], threads: int = 16, *, secret: str = SECRET
    ) -> Counter[int]:
        """Deliver a message for each of the ids; return how often each status was answered."""
        waiting = iter(list(message_ids))
        statuses: list[int] = []

        def work() -> None:
            with self.client() as client:
                for message_id in iter(lambda: next(waiting, None), None):
                    statuses.append(client.deliver(message_id=message_id, secret=secret).status)

        in_threads(threads, work)
        return Counter(statuses)


class Server(Service):
    """A running service and its log so far."""

    def __init__(self, folder: Path, process: Process, port: int) -> None:
        super().__init__(port)
        self.folder = folder
        self.process = process
        self.database = database_in(folder)

    @property
    def log(self) -> list[dict[str, Any]]:
        """All lines of stdout so far, each of which must be a JSON object."""
        whole, _, _ = _stdout(self.folder).read_text().rpartition("\n")
        lines = [json.loads(line) for line in whole.splitlines()]
        assert all(isinstance(line, dict) for line in lines)
        return lines

    @property
    def workers(self) -> list[int]:
        """The process ids of the living workers."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in children.read_text().split()]

    def wait_for_workers(self, number: int, *, but: Iterable[int] = ()) -> list[int]:
        """Return the ids of the workers once so many have started, and none of `but` is there."""

        def have_started() -> bool:
            there = self.workers
            return len(there) == number and not {*but} & {*there} and all(map(_has_started, there))

        wait_until(have_started)
        return self.workers

    def kill_worker(self) -> None:
        """Kill a worker, and return when another has taken its place."""
        before = self.workers
        os.kill(before[0], signal.SIGKILL)
        self.wait_for_workers(len(before), but=before[:1])
        wait_until(lambda: _is_up(self))

    def memory_bytes(self) -> int:
        """Return what the largest worker has in memory now."""
        pages = [int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in self.workers]
        return max(pages) * os.sysconf("SC_PAGE_SIZE")

    def query(self, sql: str) -> list[Any]:
        """Return the rows of a query on the file, through a connection that only reads."""
        with closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True)) as connection:
            return connection.execute(sql).fetchall()

    def ids(self) -> set[str]:
        """Return the `message_id` of every stored row."""
        return {row[0] for row in self.query("SELECT message_id FROM messages")}

    def stop(self) -> int:
        """Send SIGTERM and return the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    def kill(self) -> None:
        """Kill all of its processes at once, as a power cut would."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(60)


class Load:
    """Deliveries of distinct messages from several threads, during a `with` block.

    A delivery without an answer, or with 503, is delivered again later, as a provider would.
    """

    def __init__(
        self,
        service: Service,
        prefix: str,
        threads: int = 8,
        *,
        secret: str = SECRET,
        timeout_s: float = ANSWER_S,
        repeats: float = 0.0,
        acknowledge: Callable[[str], object] = lambda _message_id: None,
        finish_s: float = 0.0,
    ) -> None:
        """Repeat a share of the messages later; call `acknowledge` for each that was answered 200.

        At the end of the block, each message that is on its way has `finish_s` seconds more.
        """
        self.acknowledged: set[str] = set()
        self.statuses: Counter[int] = Counter()
        self.failures: list[Exception] = []
        self._service, self._prefix, self._secret = service, prefix, secret
        self._timeout_s, self._repeats = timeout_s, repeats
        self._acknowledge = acknowledge
        self._finish_s = finish_s
        self._end = float("inf")
        self._threads = [threading.Thread(target=self._work, args=[n]) for n in range(threads)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.end()

    def end(self) -> None:
        self._end = min(self._end, time.monotonic())
        for thread in self._threads:
            thread.join()

    def more(self, messages: int) -> None:
        """Return when so many more are acknowledged."""
        wanted = len(self.acknowledged) + messages
        wait_until(lambda: len(self.acknowledged) > wanted)

    def _work(self, number: int) -> None:
        chance = random.Random(f"{self._prefix} {number}")
        done: list[str] = []
        with self._service.client(self._timeout_s) as client:
            while time.monotonic() < self._end:
                message_id = f"{self._prefix}-{number}-{len(done)}"
                repeat = done and chance.random() < self._repeats
                if self._deliver(client, chance.choice(done) if repeat else message_id):
                    done += [] if repeat else [message_id]

    def _deliver(self, client: Client, message_id: str) -> bool:
        """Deliver a message until it is acknowledged, or until it is too late."""
        while time.monotonic() < self._end + self._finish_s:
            try:
                status = client.deliver(message_id=message_id, secret=self._secret).status
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(error)
            else:
                self.statuses[status] += 1
                if status == 200:
                    self._acknowledge(message_id)
                    self.acknowledged.add(message_id)
                    return True
            time.sleep(0.02)
        return False


@contextmanager
def serving(folder: Path, arguments: Sequence[str] = (), **settings: object) -> Iterator[Server]:
    """Run the service in `folder`, set by environment variables, until the `with` block ends.

    `WEB_CONCURRENCY=3` and so on: so many workers have started. DATABASE_URL, PORT and the secret
    are given, and deadlines that a disk that stalls does not exceed. `arguments` are for Gunicorn.
    """
    settings = {"PORT": free_port(), "COMMIT_DEADLINE_S": 20, "READ_DEADLINE_S": 20} | settings
    process = start(folder, arguments, **settings)
    server = Server(folder, process, int(str(settings["PORT"])))
    try:
        wait_until(lambda: _is_up(server))
        if workers := settings.get("WEB_CONCURRENCY"):
            server.wait_for_workers(int(str(workers)))
        yield server
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                server.kill()


@contextmanager
def running(
    command: Sequence[str], is_up: Callable[[], bool], output: Path | None = None, **options: Any
) -> Iterator[None]:
    """Run another program until the `with` block ends, and wait until it is up."""
    with (output or Path(os.devnull)).open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, **options)
    try:
        wait_until(lambda: is_up() or process.poll() is not None, every_s=0.02)
        assert process.poll() is None, f"{command[0]} ended"
        yield
    finally:
        process.terminate()
        process.wait(60)


def start(folder: Path, arguments: Sequence[str] = (), **settings: object) -> Process:
    """Start Gunicorn in its own process group, with its stdout in a file in `folder`.

    It is a fork (see `forks`), unless a library has to be loaded before.
    """
    environment = {
        **inherited(),
        "FLASK_SKIP_DOTENV": "1",  # a developer's own settings are no part of a test
        "WEBHOOK_SECRET": SECRET,
        "DATABASE_URL": f"sqlite:///{database_in(folder)}",
        **{name: str(value) for name, value in settings.items()},
    }
    program = ["webhook_api", *arguments]
    if "LD_PRELOAD" not in environment:
        return python(
            program, cwd=ROOT, env=environment, stdout=_stdout(folder), stderr=folder / "stderr"
        )
    with _stdout(folder).open("ab") as stdout, (folder / "stderr").open("ab") as stderr:
        return subprocess.Popen(
            [sys.executable, "-m", *program],
            cwd=ROOT,
            env=environment,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
        )


def inherited() -> dict[str, str]:
    """Return what a process that a test starts gets of this one's environment.

    The last is there when coverage is measured: the process then measures its own.
    """
    names = ("PATH", "PYTHONPATH", "COVERAGE_PROCESS_CONFIG")
    return {name: os.environ[name] for name in names if name in os.environ}


def database_in(folder: Path) -> Path:
    """Return the path of the database of a service that was started in `folder`."""
    return folder / "data" / "app.db"


# Linux gives other ports to clients, and to who asks for any (net.ipv4.ip_local_port_range).
_PORTS = range(20_000, 32_000)
_untried_ports = iter(random.sample(_PORTS, len(_PORTS)))


@cache
def _locks_of_ports() -> int:
    """Open a file in which each byte stands for a port, to be locked (fcntl(2))."""
    path = Path(tempfile.gettempdir(), f"webhook-tests-ports-{os.getuid()}")
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o600)


def free_port() -> int:
    """Return a port that is not in use now, and that no process of the tests gets until we end.

    So it is still free when the service that it is for has started.
    """
    for port in _untried_ports:
        with suppress(OSError), socket.socket() as probe:
            fcntl.lockf(_locks_of_ports(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
            probe.bind(("127.0.0.1", port))
            return port
    raise OSError("no port is free")


def wait_until(
    condition: Callable[[], bool], timeout_s: float = 60.0, *, every_s: float = 0.005
) -> None:
    """Return as soon as `condition` holds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that in time"
        time.sleep(every_s)


def in_threads(number: int, work: Callable[[], None]) -> None:
    """Run `work` in so many threads at once, and return when all are done."""
    threads = [threading.Thread(target=work) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _stdout(folder: Path) -> Path:
    return folder / "stdout"


def _has_started(worker: int) -> bool:
    """Return whether it has its first thread, that which writes: it starts that last."""
    with suppress(OSError):  # it just ended
        return len([*Path(f"/proc/{worker}/task").iterdir()]) > 1
    return False


def _is_up(server: Server) -> bool:
    assert server.process.poll() is None, _stdout(server.folder).read_text()
    try:
        return server.get("/health/live").status == 200
    except (OSError, http.client.HTTPException):
        return False
