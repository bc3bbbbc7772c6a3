"""The parts of Gunicorn that the server relies on are as they were at the last comparison."""

import hashlib
import inspect
from collections.abc import Callable
from typing import Any

import pytest
from gunicorn import config
from gunicorn.http import body, message, unreader, wsgi
from gunicorn.workers import base, gthread

# What webhook_api/server replaces, calls in another way than Gunicorn does, or repeats.
RELIED_ON: dict[Callable[..., Any], str] = {
    base.Worker.init_process: "114caccd7a0e",
    base.Worker.init_signals: "65442e0602b0",
    base.Worker.handle_exit: "e2f7159c426d",
    base.Worker.handle_quit: "2944b4132761",
    base.Worker.handle_error: "75426448389b",
    base.Worker.notify: "7f509bc4046b",
    config.Config.__getattr__: "ff80f0fbda2e",
    message.HeaderPolicy._peer_is_trusted_proxy:  # type: ignore[attr-defined]
    "4d98e07d3c7a",
    message._ip_in_allow_list:  # type: ignore[attr-defined]
    "f652338a798d",
    message.Message.__init__: "14b64a40f29f",
    message.Message.set_body_reader: "e3ba33f5ac7c",
    message.Message.parse_headers: "fe09a6b5e706",
    message.Message.should_close: "37c454bfb3e3",
    message.Request.parse: "34c084607ae1",
    message.Request._parse_python:  # type: ignore[attr-defined]
    "ed07ffec5178",
    body.ChunkedReader.parse_chunked: "ce85cf226da0",
    body.ChunkedReader.parse_trailers: "c2e578afedad",
    body.LengthReader.read: "be99a0aa587f",
    body.EOFReader.read: "3d690fc1dc28",
    unreader.Unreader.read: "cbfeead6687f",
    unreader.IterUnreader.chunk: "4aebaa160261",
    wsgi.create: "2c35d4a2dc62",
    wsgi.Response.__init__: "904d95d8358a",
    wsgi.Response.default_headers: "cb490cea5d6f",
    wsgi.Response._emit_body:  # type: ignore[attr-defined]
    "df723e865a1e",
    wsgi.Response.write: "a13659ff072c",
    wsgi.Response.send_headers: "7aff3b7d004f",
    wsgi.Response.should_close: "3888d47a96e2",
    gthread.ThreadWorker.run: "f92c7394d857",
    gthread.ThreadWorker.handle: "ca85c9be3df7",
    gthread.ThreadWorker.handle_request: "6d0de5b91910",
}


@pytest.mark.parametrize("function", RELIED_ON, ids=lambda function: function.__qualname__)
def test_what_the_server_relies_on_is_unchanged(function: Callable[..., Any]) -> None:
    found = hashlib.sha256(inspect.getsource(function).encode()).hexdigest()[:12]

    assert found == RELIED_ON[function], (
        f"{function.__qualname__} of Gunicorn has changed: read what is new in it, see that "
        f"webhook_api/server still does the same, and put {found!r} here"
    )
