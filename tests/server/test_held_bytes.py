"""What is counted as held for a client: it decides who is ended when memory runs out."""

import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import gevent
import pytest
from gevent.event import Event

from webhook_api.server.clients import Client, Clients, Limits

BLOCK = b"x" * 300_000
BLOCKS = 20


def take_all(client: socket.socket) -> None:
    while client.recv(50_000):
        pass


def send_blocks(ours: socket.socket, together: int) -> list[int]:
    """Send all blocks, so many at a time; return the bytes held before and after each time."""
    hub = gevent.get_hub()
    clients = Clients(Limits(send_s=60), hub)
    held: list[int] = []
    done = Event()

    def serve(client: Client) -> None:
        for _ in range(BLOCKS // together):
            for _ in range(together):
                client.sendall(BLOCK)
            held.append(client.held)
            client.flush()
            held.append(client.held)
        clients.remove(client)
        done.set()

    hub.loop.run_callback(clients.begin, ours, None, None, serve)
    assert done.wait(60)
    hub.destroy(destroy_loop=True)
    return held


@pytest.mark.parametrize("together", [1, BLOCKS])
def test_what_a_client_has_taken_of_a_response_is_not_held(together: int) -> None:
    ours, theirs = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64_000)  # it takes a part of a block
    ours.setblocking(False)
    with theirs, ThreadPoolExecutor(1) as pool:  # an event loop of its own
        sent = pool.submit(send_blocks, ours, together)
        reader = threading.Thread(target=take_all, args=[theirs])
        reader.start()

        held = sent.result(60)

        reader.join()
    assert held == [together * len(BLOCK), 0] * (BLOCKS // together)
