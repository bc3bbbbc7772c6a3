"""Whether a client is there, told by its socket."""

import socket
from collections.abc import Callable

import pytest

from webhook_api.web.client_left import whether_client_left

Act = Callable[[socket.socket, socket.socket], object]


def reset(ours: socket.socket, theirs: socket.socket) -> None:
    ours.sendall(b"unread")
    theirs.recv(1)
    theirs.close()  # with unread bytes, which resets the connection


@pytest.mark.parametrize(
    ("act", "is_gone"),
    [
        (lambda _ours, _theirs: None, False),
        (lambda _ours, theirs: theirs.sendall(b"GET /"), False),  # its next request
        (lambda _ours, theirs: theirs.close(), True),
        (lambda ours, _theirs: ours.close(), True),
        (reset, True),
    ],
    ids=["waits", "sends", "closed", "closed by us", "reset"],
)
def test_a_client_is_there_until_its_connection_ends(act: Act, is_gone: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        theirs = socket.create_connection(server.getsockname())
        ours, _ = server.accept()
    with ours, theirs:
        ours.settimeout(5)
        whether_gone = whether_client_left({"gunicorn.socket": ours})

        act(ours, theirs)

        assert whether_gone() is is_gone
        assert whether_gone() is is_gone


def test_nothing_of_the_next_request_is_read() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"GET /")

        assert not whether_client_left({"gunicorn.socket": ours})()

        assert ours.recv(10) == b"GET /"


def test_without_a_socket_the_client_is_there() -> None:
    assert not whether_client_left({})()
