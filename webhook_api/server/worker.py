"""The worker: an event loop that waits for all clients, and greenlets and threads that answer."""

import os
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from selectors import EVENT_READ, DefaultSelector
from types import FrameType
from typing import Any, Self

from gunicorn.http.errors import NoMoreData, ParseException
from gunicorn.workers.base import Worker

from webhook_api.intake.waiting import WAIT_KEY, ThreadWait, Wait
from webhook_api.outcome import NotServed
from webhook_api.reading.answer_memory import MEMORY_KEY
from webhook_api.server.affinity import Core
from webhook_api.server.answering import AnswerBroken, Exchange
from webhook_api.server.busy import BUSY
from webhook_api.server.connections import Connections
from webhook_api.server.greenlets import Greenlets
from webhook_api.server.gunicorn_settings import GunicornSettings
from webhook_api.server.listening import Listeners
from webhook_api.server.open_files import allowed_files, connections_at_most
from webhook_api.server.outbox import NotTaken
from webhook_api.server.pool import Pool
from webhook_api.server.register import Register
from webhook_api.server.states import ClientConnection, Limits
from webhook_api.shares import Kind

_TICK_S = 0.25  # between two checks of deadlines, of the master, and of what was refused
_ORPHAN_S = 5.0  # to finish what was begun, when the master is gone
_WAKE_UP_BYTES = 4096


class PatientWorker(Worker):
    """Answers a request once all of it has arrived: in a greenlet if it is short, else in a thread.

    Gunicorn's threaded worker gives a request a thread at its first byte, so that a few stalled
    clients can stop the service. Here no thread waits for a client, except those that send
    streams, whose number is limited.

    It uses Gunicorn's code for the life of a worker, its parser and its response;
    tests/server/test_gunicorn_parts.py fails if these change.
    """

    limits = Limits()
    core: Core | None = None  # on which its threads run

    def when_refused(self, reason: NotServed) -> None:
        """Called for each request that never reaches the application; to be replaced."""

    @classmethod
    def limited(cls, limits: Limits) -> type[Self]:
        """Return this class with other limits. Gunicorn makes the instances itself."""
        return type(cls.__name__, (cls,), {"limits": limits})

    def init_process(self) -> None:
        self._pool = Pool(self.cfg.threads, self.limits.reads_at_once, self.limits.shares)
        self._settings = GunicornSettings(self.cfg)
        self._poller = DefaultSelector()
        limits = replace(self.limits, idle_s=self.cfg.keepalive or self.limits.idle_s)
        register = Register(limits, self._poller)
        self._connections = Connections(limits, register, self._begin, self._refused)
        self._finished: deque[tuple[ClientConnection, bool]] = deque()
        self._greenlets = Greenlets(self._wake_up)
        self._next_tick = 0.0
        self._busy = 0  # requests that found no memory, thread or turn
        super().init_process()

    def run(self) -> None:
        """Serve until the worker must stop; then finish what was begun."""
        self._listeners = Listeners(
            self.sockets,
            self._poller,
            self._connections,
            partial(self._safely, self._connections.add),
            connections_at_most(self.cfg.worker_connections, self.cfg.threads, allowed_files()),
        )
        # Gunicorn lets the kernel write to it at each signal as well.
        self._poller.register(self.PIPE[0], EVENT_READ)
        self._listeners.open()
        while self.alive:
            self._loop_once()
        self._stop()

    def handle_quit(self, sig: int, frame: FrameType | None) -> None:
        self._pool.close()
        super().handle_quit(sig, frame)

    def _loop_once(self) -> None:
        events = self._poller.select(0 if self._finished else self._greenlets.idle_s(_TICK_S))
        # First of all, so that the next `select` sees what is written to the pipe from now on.
        if any(key.fd == self.PIPE[0] for key, _ in events):
            os.read(self.PIPE[0], _WAKE_UP_BYTES)
        self._greenlets.resume()
        self._take_finished()  # so that the next request finds the last one finished
        listeners = []
        for key, _ in events:
            if type(key.data) is ClientConnection:
                self._safely(self._connections.ready, key.data)
            elif key.fd != self.PIPE[0]:
                listeners.append(key.fileobj)
        # Last: it may end idle connections, and those that have sent something are not idle now.
        for listener in listeners:
            self._listeners.accept(listener)
        # Not every thread wakes the loop when it has finished.
        self._take_finished()
        self._greenlets.hand_over()
        if time.monotonic() >= self._next_tick:
            self._tick()

    def _safely(
        self, step: Callable[[ClientConnection], None], connection: ClientConnection
    ) -> None:
        try:
            step(connection)
        except Exception:
            # Any error ends one connection only, and not the worker.
            self.log.exception("a connection failed")
            self._connections.end(connection)

    def _tick(self) -> None:
        self._next_tick = time.monotonic() + _TICK_S
        self.notify()
        self._connections.expire()
        self._pool.expire()
        if self.alive and os.getppid() != self.ppid:
            self.log.warning("the master is gone: stopping")
            self.alive = False
        if self.alive:
            self._listeners.open()
        self._report()
        if self.core:
            self.core.look()

    def _report(self) -> None:
        """Log, at most once a tick, what has no log line of its own."""
        seen = self._connections
        if self._busy or seen.dropped or self._listeners.trouble:
            self.log.warning(
                "refused %d requests, since no memory, thread or turn was free; dropped %d clients "
                "that did not take their answer; accepting: %s",
                *(self._busy, seen.dropped, self._listeners.trouble or "ok"),
            )
            self._busy = seen.dropped = 0
            self._listeners.trouble = None

    def _take_finished(self) -> None:
        for _ in range(len(self._finished)):  # Without those that are added meanwhile.
            self._connections.finished(*self._finished.popleft())

    def _begin(self, connection: ClientConnection, request: bytes, whole: bool) -> None:
        """Let a greenlet or a thread answer.

        Raises:
            RuntimeError: a thread cannot be started.
        """
        kind = self.limits.kind_of(request)
        if kind is Kind.SHORT and whole:
            self._greenlets.run(
                partial(self._work, connection, request, whole, self._greenlets.wait)
            )
            return
        work = partial(self._work_in_thread, connection, request, whole)
        when_late = partial(self._connections.refuse, connection, NotServed.NO_TURN, request)
        self._pool.give(work, None if kind is Kind.SHORT else kind, when_late)

    def _work_in_thread(self, connection: ClientConnection, request: bytes, whole: bool) -> None:
        keep = False
        try:
            keep = self._work(connection, request, whole, ThreadWait)
        finally:
            left = connection.outbox.size or connection.inbox
            if not keep or left or connection.made or not connection.watched:
                self._wake_up()
            # else the next event of the connection wakes the loop, which watches it already.

    def _work(
        self, connection: ClientConnection, request: bytes, whole: bool, wait: Callable[[], Wait]
    ) -> bool:
        """Answer one request; return whether its connection can be kept."""
        keep = False
        offers = {MEMORY_KEY: self._connections.answer_memory(connection), WAIT_KEY: wait}
        try:
            keep = self._answer(connection, request, whole, offers)
        finally:
            self._finished.append((connection, keep))
        return keep

    def _answer(
        self, connection: ClientConnection, request: bytes, whole: bool, offers: Mapping[str, Any]
    ) -> bool:
        outbox = connection.outbox
        self.nr += 1
        if self.nr == self.max_requests:
            self.log.info("Autorestarting worker after current request.")
            self.alive = False
        keep = False
        try:
            exchange = Exchange(self._settings, request, connection)
            keep = exchange.answer(
                self.wsgi,
                offers,
                send_s=self.limits.send_s,
                last=not whole or not self.alive,
            )
        except (NotTaken, NoMoreData) as error:
            self.log.debug("no answer, or not all of it: %s", error)
        except AnswerBroken:
            outbox.clear()
            self.log.exception("an answer broke off")
        except Exception as error:
            # Gunicorn answers in HTML: the application has not seen the request.
            malformed = isinstance(error, ParseException)
            self._refused(NotServed.MALFORMED if malformed else NotServed.FAILED)
            self.handle_error(None, outbox, connection.client, error)  # type: ignore[arg-type]
        try:
            outbox.push()
        except NotTaken:
            return False
        outbox.shrink()
        return keep

    def _refused(self, reason: NotServed) -> None:
        self._busy += reason in BUSY
        self.when_refused(reason)

    def _wake_up(self) -> None:
        with suppress(OSError):  # A full pipe wakes it as well.
            os.write(self.PIPE[1], b".")

    def _stop(self) -> None:
        """Answer what was begun, so that no client finds its connection reset.

        At SIGTERM Gunicorn sets `alive` to False; after this it calls `worker_exit`.
        """
        self._listeners.close(self.cfg.backlog)
        self._connections.stop()
        give_up = time.monotonic() + self.cfg.graceful_timeout
        while len(self._connections) and time.monotonic() < give_up:
            if os.getppid() != self.ppid:
                give_up = min(give_up, time.monotonic() + _ORPHAN_S)
            self._loop_once()
        self._connections.end_all()
        self._pool.close()
        self._poller.close()
