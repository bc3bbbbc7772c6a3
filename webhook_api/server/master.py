"""What is changed in Gunicorn's master: its log lines, the settings it accepts, how it stops."""

import ctypes
import logging
import os
import re
import socket
import struct
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from gunicorn.config import Config as GunicornConfig
from gunicorn.glogging import Logger

from webhook_api.logs import JsonFormatter
from webhook_api.server.worker import LoopWorker

_QUERY = re.compile(r"\?\S*")
_ONE_JSON_LINE = "the service writes its own lines, each a JSON object"
_REFUSED = {
    "certfile": "TLS is not served here, put a reverse proxy in front",
    "keyfile": "TLS is not served here, put a reverse proxy in front",
    "preload_app": "no database connection may cross a fork",
    "reuse_port": "a worker that stops would reset connections that it has not accepted",
    "accesslog": _ONE_JSON_LINE,
    "logconfig": _ONE_JSON_LINE,
    "logconfig_dict": _ONE_JSON_LINE,
    "logconfig_json": _ONE_JSON_LINE,
}
_SO_ATTACH_FILTER = 26  # asm-generic/socket.h
# A program of the kernel's packet filter (networking/filter.rst), for TCP segments.
_DROP_NEW = b"".join(
    struct.pack("HBBI", *instruction)
    for instruction in (
        (0x30, 0, 0, 13),  # load the flags
        (0x54, 0, 0, 0x12),  # only SYN and ACK
        (0x15, 0, 1, 0x02),  # SYN alone:
        (0x06, 0, 0, 0),  # drop
        (0x06, 0, 0, 0xFFFFFFFF),  # take
    )
)


class JsonLogger(Logger):
    """Gunicorn's logger, which writes the same JSON to stdout as the application.

    Not with `logconfig_dict`: then Gunicorn prepares an access-log record for every request, even
    if there is no access log.
    """

    def setup(self, cfg: GunicornConfig) -> None:
        super().setup(cfg)
        for handler in self.error_log.handlers:
            handler.setFormatter(JsonFormatter())
            handler.addFilter(_without_query)
            if isinstance(handler, logging.StreamHandler):
                handler.setStream(sys.stdout)


def _without_query(record: logging.LogRecord) -> bool:
    # Gunicorn quotes the request lines that it refuses, and a query holds phone numbers.
    record.msg, record.args = _QUERY.sub("?...", record.getMessage()), ()
    return True


def refusal(cfg: GunicornConfig) -> str | None:
    """Return why Gunicorn must not start with these settings, in one line, or None.

    They may be from its command line, or from GUNICORN_CMD_ARGS.
    """
    for name, reason in _REFUSED.items():
        if cfg.settings[name].get():
            return f"{name} is set: {reason}"
    if cfg.proxy_protocol != "off" or cfg.protocol != "http":
        return "proxy_protocol or protocol is set: only HTTP/1.1 is spoken here"
    if cfg.threads != 1 and issubclass(cfg.worker_class, LoopWorker):
        return "threads is set: WEB_THREADS is the number of threads that make pages"
    return None


def drop_new_connections(listener: socket.socket) -> bool:
    """Let the kernel drop each attempt to connect (on Linux); what is connected goes on.

    Return whether it does: some containers may not set a filter.
    """
    program = ctypes.create_string_buffer(_DROP_NEW)
    count = len(_DROP_NEW) // struct.calcsize("HBBI")
    with suppress(OSError):
        listener.setsockopt(
            socket.SOL_SOCKET,
            _SO_ATTACH_FILTER,
            struct.pack("HL", count, ctypes.addressof(program)),
        )
        return True
    return False


def drop_before_close(master: Any) -> None:
    """Let `master`, an arbiter of Gunicorn, drop new connections before it closes its listeners.

    When the last process closes a listening socket, the kernel resets the connections that nobody
    has accepted, and there is always a moment between the last `accept` and the `close`. A client
    whose packet was dropped is not reset: it sends the packet again after a second. Then nobody
    listens any more, or the next service does.

    Nothing is dropped if another master shares the listeners (SIGUSR2), or if systemd keeps them.
    Workers inherit this, and close their listeners also while others go on (SIGHUP), so they drop
    nothing.
    """

    def close(sock: socket.socket, close_it: Callable[[], None]) -> None:
        is_shared = master.reexec_pid or master.master_pid or master.systemd
        if os.getpid() == master.pid and not is_shared:
            drop_new_connections(sock)
        close_it()

    for listener in master.LISTENERS:
        listener.close = partial(close, listener.sock, listener.close)
