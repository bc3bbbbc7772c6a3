"""The worker: a Gunicorn worker whose clients are greenlets of gevent's event loop.

Nothing is patched: the application is synchronous code, and runs where `executors.py` says.
"""

import os
import resource
import sys
import time
from collections.abc import Callable, Generator
from contextlib import closing, suppress
from functools import partial
from io import BytesIO
from queue import Empty, SimpleQueue
from signal import SIGINT, SIGQUIT, SIGTERM
from types import FrameType
from typing import Any

import gevent
from gevent.event import Event
from gevent.lock import BoundedSemaphore
from gunicorn.http.wsgi import Response, create
from gunicorn.workers.ggevent import GeventWorker

from webhook_api.execution import EXECUTION_KEY, Execution, Executor, RunElsewhere, RunLater
from webhook_api.outcome import NotServed
from webhook_api.server.arrivals import Arrivals
from webhook_api.server.clients import Client, Clients, Limits
from webhook_api.server.executors import (
    STREAM_WAIT_S,
    STREAMS,
    NotRun,
    Threads,
    executor_of,
    path_of_route,
)
from webhook_api.server.requests import GunicornSettings, Received, Requests

_READ = 1  # of gevent's io watchers
_TICK_S = 0.25  # between two checks of the master, and of what is to be logged
_SIGNALS_BYTES = 4096
_STOP_TICK_S = 0.02
_ACCEPTED = 2  # clients in one turn of the loop, so that other workers accept some
_BANNER = "webhook"  # does not tell clients which server this is
_SWITCH_S = 0.0005  # after which a thread gives the interpreter to the loop (Python: 0.005)
MAX_PAUSES = 16  # responses that wait because the application says so
_QUIT_S = 1.5  # to finish what was begun, at SIGINT and SIGQUIT
_QUIT_IDLE_S = 0.5  # for a request that may be on its way
_MASTER_S = 0.2  # until the master has closed its listener, at a signal to all processes
_ORPHAN_S = 5.0  # the same, when the master is gone
_OTHER_FILES = 160  # that a process may have open besides its clients

_Body = list[bytes] | Generator[bytes, None, None]  # of a response; a stream yields its blocks


class LoopWorker(GeventWorker):
    """Gunicorn's gevent worker, with deadlines for clients and executors for requests.

    What it replaces, and why:

    - `patch`: SQLite blocks its thread whatever is patched, so the application has threads.
    - `run`: Gunicorn's has no limit of connections for all listeners together and no deadlines for
      a client that stops sending or takes nothing; it calls `notify`, which ends the process when
      the master is gone, without a response to what was begun; and at a stop it resets the clients
      that the kernel has queued.
    - `handle_quit`: it stops the loop, and ends what was begun.

    Of Gunicorn it uses `PIPE`, `alive`, `app` (loaded as `wsgi`), `cfg`, `log`, `max_requests`,
    `nr`, `ppid`, `sockets` and `tmp`, whose `notify` is the heartbeat.
    """

    # Set by `gunicorn.conf.py`.
    limits: Limits
    report_waiting: Callable[[int], None]  # told how many requests wait for messages

    _has_quit = False

    def patch(self) -> None:
        pass

    def handle_quit(self, sig: int, frame: FrameType | None) -> None:
        self.alive = False
        self._has_quit = True

    def run(self) -> None:
        """Serve until the worker must stop; then finish what was begun."""
        sys.setswitchinterval(_SWITCH_S)
        hub = gevent.get_hub()
        hub.print_exception = self._log_exception  # type: ignore[method-assign]
        pools = self.limits.pools
        self._settings = GunicornSettings(self.cfg)
        self._threads = {executor: Threads(limits) for executor, limits in pools.items()}
        self._clients = Clients(self.limits, hub)
        self._streams = BoundedSemaphore(STREAMS)
        self._pausing = 0
        self._arrivals = Arrivals(self._threads[Executor.PAGE], self.report_waiting)
        self._trouble: OSError | None = None  # why accepting has paused
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._max_clients = max(16, min(self.cfg.worker_connections, files - _OTHER_FILES))
        self._accepting = [hub.loop.io(listener.fileno(), _READ) for listener in self.sockets]
        for listener in self.sockets:
            listener.setblocking(False)
        self._woken = Event()
        # The kernel writes to this pipe of Gunicorn's at each signal.
        signals = hub.loop.io(self.PIPE[0], _READ)
        signals.start(self._take_signals)
        while self.alive:
            self._tick()
            self._woken.wait(_TICK_S)
            self._woken.clear()
        self._stop()
        signals.close()

    def _take_signals(self) -> None:
        os.read(self.PIPE[0], _SIGNALS_BYTES)
        self._woken.set()

    def _log_exception(self, context: object, t: Any, v: Any, tb: Any) -> None:
        """Log what a callback of the loop raised: gevent would print it."""
        self.log.error("the event loop failed", exc_info=(t, v, tb))

    def _tick(self) -> None:
        self.tmp.notify()
        if self._trouble or self._clients.dropped:
            self.log.warning(
                "dropped %d clients that did not take their response; accepting: %s",
                *(self._clients.dropped, self._trouble or "ok"),
            )
            self._clients.dropped, self._trouble = 0, None
        if os.getppid() != self.ppid:
            self.log.warning("the master is gone: stopping")
            self.alive = False
        else:
            for watcher, listener in zip(self._accepting, self.sockets, strict=True):
                watcher.start(self._accept_some, listener)

    def _accept_some(self, listener: Any) -> None:
        """Accept clients.

        If there is no room, end another client, or stop accepting until the next tick.
        """
        for _ in range(_ACCEPTED):
            has_room = len(self._clients) < self._max_clients or self._clients.evict_one()
            try:
                if has_room:
                    sock, address = listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:  # EMFILE and the like
                self._trouble = error
                if self._clients.evict_one():
                    return
                has_room = False
            if not has_room:
                for watcher in self._accepting:
                    watcher.stop()
                return
            self._begin(sock, address, listener.getsockname())

    def _begin(self, sock: Any, address: Any, server: Any) -> None:
        sock.setblocking(False)
        self._clients.begin(sock, address, server, self._serve)

    def _serve(self, client: Client) -> None:
        """Respond to the requests of a client until one side has enough."""
        requests = Requests(client, self._settings, self._clients.limits)
        try:
            while (received := requests.receive()) and self._respond(client, received):
                if requests.has_more:
                    gevent.sleep(0)  # the others go on
            client.linger()
        except OSError as error:
            self.log.debug("a connection ended: %s", error)
        except BaseException:
            # Any error ends one connection only. The greenlet's parent is the loop itself.
            self.log.exception("a connection failed")
        finally:
            self._clients.remove(client)

    def _respond(self, client: Client, received: Received) -> bool:
        """Respond to one request; return whether the connection is kept."""
        self.nr += 1
        if self.nr == self.max_requests:
            self.log.info("Autorestarting worker after current request.")
            self.alive = False
        response, parts = self._run(client, received)
        if not self.alive or not self.cfg.keepalive:
            response.force_close()
        if isinstance(parts, list):
            while parts:  # popped, so that each piece is freed once it is sent
                response.write(parts.pop(0))
        else:
            with closing(parts):
                for block in parts:
                    response.write(block)
                    client.flush()
        response.close()
        client.flush()
        return not response.should_close()

    def _run(self, client: Client, received: Received) -> tuple[Response, _Body]:
        """Run the application where the request belongs; return the head and the body.

        If that is not possible in time, the application itself refuses the request, in the loop.
        """
        request, body, refusal = received
        earlier = None  # the run before this one, if it ended in RunLater
        method, path = request.method or "", path_of_route(request.path or "")
        executor = Executor.LOOP if refusal else executor_of(method, path, len(body))
        while True:
            execution = Execution(
                executor, refusal, client.has_left, can_wait=self.alive, earlier=earlier
            )
            response, environ = create(  # type: ignore[call-overload]
                request, client, client.address, client.server, self._settings
            )
            response.version = _BANNER
            environ["wsgi.multithread"] = True
            environ["wsgi.input"] = BytesIO(body)
            environ[EXECUTION_KEY] = execution
            app = partial(self.wsgi, environ, response.start_response)
            try:
                parts = self._call(app, executor)
            except RunElsewhere as elsewhere:
                executor = elsewhere.executor
            except RunLater as later:
                earlier = later
                refusal = self._arrivals.wait(later, client.has_left)
                executor = Executor.LOOP if refusal else executor
            except NotRun as error:
                execution.claim()
                executor, refusal = Executor.LOOP, error
            else:
                self._pause(execution.pause_s)
                return response, parts

    def _call(self, app: Callable[[], Any], executor: Executor) -> _Body:
        if executor is Executor.LOOP:
            return _collect(app)
        if executor is Executor.STREAM:
            stream = self._stream(app)
            next(stream)
            return stream
        return self._threads[executor].run(partial(_collect, app))

    def _stream(self, app: Callable[[], Any]) -> Generator[bytes, None, None]:
        """Yield the blocks of a response, after an empty one when `app` has begun.

        A thread makes each block, but none waits while the client takes it.

        Raises:
            NotRun: too many streams are being sent, or `app` did not begin in time.
            ConnectionAbortedError: a block was not made in time.
        """
        threads = self._threads[Executor.STREAM]
        if not self._streams.acquire(timeout=STREAM_WAIT_S):
            raise NotRun("too many requests are waiting", NotServed.NO_TURN)
        try:
            parts = threads.run(app)
            try:
                yield b""
                blocks = iter(parts)
                while (block := threads.run(partial(next, blocks, None))) is not None:
                    yield block
            except NotRun as error:
                raise ConnectionAbortedError(f"a stream ends early: {error}") from None
            finally:
                with suppress(NotRun, ValueError):  # a thread hangs in it
                    threads.run(getattr(parts, "close", list))
        finally:
            self._streams.release()

    def _pause(self, seconds: float) -> None:
        """Wait, unless too many wait already: each keeps a connection."""
        if seconds and self._pausing < MAX_PAUSES:
            self._pausing += 1
            gevent.sleep(seconds)
            self._pausing -= 1

    def _stop(self) -> None:
        """Respond to what was begun, so that no client finds its connection reset.

        After this Gunicorn calls `worker_exit`.
        """
        stopped = time.monotonic()
        # The master must close its copy first: whoever connects after our close would be reset.
        gevent.sleep(_MASTER_S)
        gevent.get_hub().loop.run_callback(self._stop_accepting)
        gevent.sleep(0)
        self._arrivals.end()
        while len(self._clients):
            grace_s = _QUIT_S if self._has_quit else self.cfg.graceful_timeout
            if os.getppid() != self.ppid:
                grace_s = min(grace_s, _ORPHAN_S)
            if time.monotonic() - stopped > grace_s:
                break
            self._clients.shorten_idle(_QUIT_IDLE_S if self._has_quit else self.limits.stop_s)
            self.tmp.notify()
            gevent.sleep(_STOP_TICK_S)
        for threads in self._threads.values():
            threads.close()

    def _stop_accepting(self) -> None:
        """Accept the clients in the kernel's queue, which would otherwise be reset; then close.

        A client that connects between the last accept and the close is reset. So there is nothing
        between the two, and when the service stops, no client can connect: see `master.py`.
        """
        for listener, watcher in zip(self.sockets, self._accepting, strict=True):
            watcher.close()
            server = listener.getsockname()
            accepted = []
            with suppress(OSError):
                while True:
                    accepted.append(listener.accept())
            listener.close()
            for sock, address in accepted:
                self._begin(sock, address, server)


def _collect(app: Callable[[], Any]) -> list[bytes]:
    """Return all parts of a response."""
    parts = app()
    try:
        return list(parts)
    finally:
        if hasattr(parts, "close"):
            parts.close()


def asked_to_stop(signals: "SimpleQueue[int]") -> bool:
    """Return whether one of `signals`, which came after the fork, tells a worker to stop.

    Until Gunicorn sets a worker's handlers, those of the master only put a signal in this queue,
    which nobody reads in the worker. It would go on, and the master would wait for it for
    `graceful_timeout`.
    """
    with suppress(Empty):
        while signals.get_nowait() not in (SIGTERM, SIGINT, SIGQUIT):
            pass
        return True
    return False
