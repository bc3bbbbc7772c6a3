"""`forward`: hands each message on to a URL or a program, in order, at least once."""

import random
import shlex
import shutil
import signal
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from http.client import HTTPException

import click
from pydantic_core import to_json

from webhook_api.cli.command import command, current_settings, say, writing
from webhook_api.cli.deliver import connector, target_of
from webhook_api.config import Config, ConfigError
from webhook_api.db import current_database
from webhook_api.errors import StateError, Unavailable
from webhook_api.models import FeedPosition, FeedQuery, FeedStart
from webhook_api.providers.standard import sign_delivery
from webhook_api.reading.feed import read_feed
from webhook_api.responses import FeedMessage
from webhook_api.store.database import Database
from webhook_api.store.lock import LockedConnection, transaction
from webhook_api.store.positions import (
    NoConsumer,
    Pruned,
    create_consumer,
    find_consumer,
    move_consumer,
    replicated_end,
)
from webhook_api.store.writer import Writer

_POLL_EVERY_S = 0.1
_FIRST_PAUSE_S = 0.5  # after a failure; doubled after each further one
_LONGEST_PAUSE_S = 60.0

HandOn = Callable[[str, bytes], str]  # of an id and a body; returns why it failed, or nothing


class TargetGone(Exception):
    """The URL takes no more messages (Standard Webhooks: 410 disables an endpoint)."""


@command("forward")
@click.argument("name")
@click.option("--to", "url", help="POST each message to this URL, signed with FORWARD_SECRET.")
@click.option("--exec", "program", help="Run this for each message, which is its stdin.")
@click.option(
    "--batch", type=click.IntRange(1, 100), help="Hand on up to so many at once, as a JSON array."
)
@click.option("--timeout", "timeout_s", type=click.FloatRange(0.1, 3600), default=30.0)
@click.option("--from", "start", type=click.Choice(["start", "now"]), default="start")
def forward_messages(
    name: str,
    url: str | None,
    program: str | None,
    batch: int | None,
    timeout_s: float,
    start: FeedStart,
) -> None:
    """Hand each message on, in the order of arrival, as the consumer NAME.

    A message is acknowledged when the URL has answered 2xx, or the program ended with status 0;
    until then it is handed on again and again. So each is handed on at least once. Goes on until
    SIGTERM or Ctrl-C, or until the URL answers 410. A new consumer begins at --from.
    """
    if (url is None) == (program is None):
        raise click.UsageError("one of --to and --exec is needed")
    settings = current_settings()
    if url is not None:
        hand_on = _post_to(url, settings, timeout_s)
    else:
        hand_on = _run(program or "", timeout_s)
    database = current_database()
    database.refuse_standby()  # it could not acknowledge anything
    try:
        with writing(database) as writer:
            forwarder = _Forwarder(database, writer, name, hand_on, batch, start)
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda *_: forwarder.stopped.set())
            forwarder.run()
    except TargetGone:
        say(f"{name}: the URL answered 410, so it gets no more messages", err=True)
    except StateError as error:
        raise click.ClickException(f"consumer {name}: {error}") from None


def _post_to(url: str, settings: Config, timeout_s: float) -> HandOn:
    """Return what POSTs a body, as Standard Webhooks do."""
    target = target_of(url, "--to")
    if not settings.forward_keys:
        raise ConfigError("FORWARD_SECRET is not set")
    connect = connector(target, timeout_s)
    path = target._replace(scheme="", netloc="", fragment="").geturl()

    def post(webhook_id: str, body: bytes) -> str:
        headers = sign_delivery(settings.forward_keys[0].key, webhook_id, int(time.time()), body)
        headers["Content-Type"] = "application/json"
        try:
            with closing(connect()) as client:
                client.request("POST", path or "/", body, headers)
                status = client.getresponse().status
        except (OSError, HTTPException) as error:
            return f"no answer ({error or type(error).__name__})"
        if status == HTTPStatus.GONE:
            raise TargetGone
        return "" if 200 <= status < 300 else f"the URL answered {status}"

    return post


def _run(program: str, timeout_s: float) -> HandOn:
    """Return what runs `program` with a body as its stdin. It is split, but no shell runs it."""
    try:
        words = shlex.split(program)
    except ValueError as error:
        raise click.UsageError(f"--exec: {error}") from None
    if not words or not shutil.which(words[0]):
        raise click.UsageError(f"--exec is {program!r}: there is no such program")

    def run(_webhook_id: str, body: bytes) -> str:
        try:
            ended = subprocess.run(words, input=body, timeout=timeout_s, check=False)  # noqa: S603
        except (OSError, subprocess.TimeoutExpired) as error:
            return str(error)
        return f"the program ended with status {ended.returncode}" if ended.returncode else ""

    return run


@dataclass
class _Forwarder:
    """Reads as a consumer, hands on, and acknowledges."""

    database: Database
    writer: Writer
    name: str
    hand_on: HandOn
    batch: int | None
    start: FeedStart
    stopped: threading.Event = field(default_factory=threading.Event)
    shown: str = ""  # what was said last

    def run(self) -> None:
        """Hand messages on until `stopped`."""
        pause_s = _FIRST_PAUSE_S
        while not self.stopped.is_set():
            try:
                failure = self._step()
            except (Unavailable, sqlite3.Error, OSError) as error:
                failure = f"database: {error}"
            if failure:
                self._show(f"{failure}; trying again")
                self.stopped.wait(pause_s * random.uniform(0.75, 1.25))  # noqa: S311
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            else:
                pause_s = _FIRST_PAUSE_S
        self._show("stopped")

    def _step(self) -> str:
        """Hand on what comes next, or wait for it; return why it failed, or nothing."""
        arrivals, end = self.database.arrivals(), replicated_end(self.database)
        try:
            with self.database.reader() as db:
                kept = find_consumer(db, self.name).position
                part = read_feed(db, FeedQuery(), kept, self.batch or 1, end)
                messages, position, _ = part
        except NoConsumer:
            self._write(partial(create_consumer, name=self.name, wanted=self.start))
            return ""
        except Pruned:
            self._show("messages were removed before they were handed on; going on after them")
            self._move(kept, "start")
            return ""
        if not messages:
            self._show(f"waiting for messages after {kept}")
            while self.database.arrivals() == arrivals and not self.stopped.wait(_POLL_EVERY_S):
                pass
            return ""
        self._show("handing messages on")
        failure = self._hand_on_all(messages, position)
        if not failure:
            self._move(kept, position)
        return f"{messages[0]['message_id']}: {failure}" if failure else ""

    def _hand_on_all(self, messages: Sequence[FeedMessage], position: FeedPosition) -> str:
        if self.batch:
            # The same id has always the same content: all from the kept position to this one.
            return self.hand_on(str(position), to_json(messages))
        return self.hand_on(messages[0]["message_id"], to_json(messages[0]))

    def _move(self, kept: FeedPosition, wanted: FeedPosition | FeedStart) -> None:
        self._write(partial(move_consumer, name=self.name, wanted=wanted, expected={str(kept)}))

    def _write(self, change: Callable[[LockedConnection], object]) -> None:
        def work(connection: LockedConnection) -> None:
            self.writer.make_space(connection)
            with transaction(connection):
                change(connection)

        self.writer.write(work)

    def _show(self, state: str) -> None:
        """Say what it does, unless it was said last."""
        if state != self.shown:
            self.shown = state
            say(f"{self.name}: {state}", err=True)
