"""Whether a client is there, told by its socket."""

import socket
from collections.abc import Iterator

import pytest

from webhook_api.web.client_left import whether_client_left


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.settimeout(5)
    yield ours, theirs
    ours.close()
    theirs.close()


def test_a_client_that_waits_is_there(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, _ = pair

    assert not whether_client_left({"gunicorn.socket": ours})()


def test_a_client_that_has_sent_its_next_request_is_there_and_nothing_of_it_is_read(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = pair
    theirs.sendall(b"GET /")

    is_gone = whether_client_left({"gunicorn.socket": ours})

    assert not is_gone()
    assert not is_gone()
    assert ours.recv(10) == b"GET /"


def test_a_client_that_closed_is_gone(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    is_gone = whether_client_left({"gunicorn.socket": ours})
    theirs.close()

    assert is_gone()


def test_a_client_whose_connection_was_reset_is_gone() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        theirs = socket.create_connection(server.getsockname())
        ours, _ = server.accept()
        ours.sendall(b"unread")
        # Closing with unread bytes resets the connection.
        theirs.recv(1)
        theirs.close()

        with ours:
            assert whether_client_left({"gunicorn.socket": ours})()


def test_a_client_that_we_closed_is_gone(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, _ = pair
    is_gone = whether_client_left({"gunicorn.socket": ours})
    ours.close()

    assert is_gone()


def test_without_a_socket_the_client_is_there() -> None:
    assert not whether_client_left({})()
