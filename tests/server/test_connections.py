"""Each step of a connection from state to state."""

import random
import socket
from contextlib import suppress
from selectors import EVENT_READ, EVENT_WRITE

import pytest

from tests.server.bench import GET, HALF, LIMITS, Bench, state
from webhook_api.outcome import NotServed
from webhook_api.server.states import State


def test_a_request_goes_all_the_way_and_the_connection_is_idle_again(bench: Bench) -> None:
    client, connection = bench.connect()
    assert (state(connection), bench.watched(connection)) == (State.IDLE, EVENT_READ)

    bench.send(client, connection, GET[:10])
    assert state(connection) is State.ARRIVING
    bench.send(client, connection, GET[10:])
    assert state(connection) is State.ANSWERING
    bench.answer(connection, b"answer")

    assert state(connection) is State.IDLE
    assert bench.given == [(connection, GET, True)]
    assert client.recv(100) == b"answer"
    assert bench.held() == 0


def test_a_whole_request_is_given_to_a_thread_at_once(bench: Bench) -> None:
    _, connection = bench.connect(GET)

    assert state(connection) is State.ANSWERING


def test_what_follows_a_request_waits_until_it_is_answered(bench: Bench) -> None:
    client, connection = bench.connect(GET + GET + GET[:5])
    for answered in (1, 2):
        assert [request for _, request, _ in bench.given] == [GET] * answered
        bench.answer(connection, b"")
    assert state(connection) is State.ARRIVING

    bench.send(client, connection, GET[5:])

    assert len(bench.given) == 3


def test_nothing_is_received_while_a_thread_answers(bench: Bench) -> None:
    client, connection = bench.connect(GET)
    held = bench.held()

    bench.send(client, connection, GET * 50)

    assert (bench.held(), bench.watched(connection)) == (held, 0)
    bench.answer(connection, b"")
    assert bench.watched(connection) == EVENT_READ


def test_an_idle_client_is_closed_with_a_fin(bench: Bench) -> None:
    client, connection = bench.connect()
    bench.after(4.9)
    assert state(connection) is State.IDLE

    bench.after(0.2)

    assert state(connection) is State.LINGERING
    assert client.recv(10) == b""
    client.close()
    bench.connections.ready(connection)
    assert state(connection) is State.ENDED


def test_a_request_that_does_not_arrive_is_answered_with_what_is_here(bench: Bench) -> None:
    _, connection = bench.connect(HALF)
    bench.after(6.9)
    assert state(connection) is State.ARRIVING

    bench.after(0.2)

    assert bench.given == [(connection, HALF, False)]


def test_a_client_that_leaves_in_the_middle_is_answered_with_what_is_here(bench: Bench) -> None:
    client, connection = bench.connect(HALF)
    client.shutdown(socket.SHUT_WR)

    bench.connections.ready(connection)

    assert bench.given == [(connection, HALF, False)]


def test_a_client_that_leaves_before_a_request_is_forgotten(bench: Bench) -> None:
    client, connection = bench.connect()
    client.close()

    bench.connections.ready(connection)

    assert state(connection) is State.ENDED


def test_an_answer_may_take_long_as_long_as_some_of_it_is_taken(bench: Bench) -> None:
    client, connection = bench.connect(GET)
    bench.answer(connection, b"x" * 8900)
    assert (state(connection), bench.watched(connection)) == (State.SENDING, EVENT_WRITE)
    taken = 0

    while state(connection) is State.SENDING:
        taken += len(client.recv(65_536))
        bench.connections.ready(connection)
        bench.after(2.5)

    assert state(connection) is State.IDLE
    assert taken + len(client.recv(10_000)) == 8900


def test_a_client_that_takes_nothing_is_dropped(bench: Bench) -> None:
    _, connection = bench.connect(GET)
    bench.answer(connection, b"x" * 8900)
    bench.after(2.9)
    assert state(connection) is State.SENDING

    bench.after(0.2)

    assert state(connection) is State.ENDED
    assert bench.connections.dropped == 1


def test_a_last_answer_is_sent_whole_before_the_fin(bench: Bench) -> None:
    client, connection = bench.connect(GET)
    bench.answer(connection, b"x" * 8900, keep=False)
    taken = b""

    while state(connection) is State.SENDING:
        taken += client.recv(65_536)
        bench.connections.ready(connection)
    while part := client.recv(65_536):
        taken += part

    assert len(taken) == 8900
    assert state(connection) is State.LINGERING
    bench.after(2.1)
    assert state(connection) is State.ENDED


def test_bytes_after_the_last_answer_are_read_and_dropped(bench: Bench) -> None:
    client, connection = bench.connect(GET)
    bench.answer(connection, b"", keep=False)

    bench.send(client, connection, GET)

    assert state(connection) is State.LINGERING
    assert len(bench.given) == 1
    assert bench.held() == 0


def test_without_a_thread_the_answer_is_503(bench: Bench) -> None:
    bench.threads = False

    client, connection = bench.connect(GET)

    assert state(connection) is State.LINGERING
    assert client.recv(1000).startswith(b"HTTP/1.1 503 ")
    assert bench.refused == [NotServed.NO_THREAD]


def test_a_stale_event_of_a_connection_that_was_ended_does_nothing(bench: Bench) -> None:
    client, connection = bench.connect(HALF)
    client.sendall(b"x" * 100)
    bench.connections.end(connection)

    bench.connections.ready(connection)
    bench.connections.finished(connection, True)
    bench.connections.end(connection)

    assert state(connection) is State.ENDED


def test_a_worker_that_stops_gives_idle_clients_a_short_time(bench: Bench) -> None:
    client, connection = bench.connect()
    _, other = bench.connect()

    bench.connections.stop()
    bench.send(client, connection, GET)
    bench.after(1.1)

    assert (state(connection), state(other)) == (State.ANSWERING, State.LINGERING)


@pytest.mark.parametrize("seed", range(20))
def test_no_order_of_events_breaks_the_connections(bench: Bench, seed: int) -> None:
    chance = random.Random(seed)
    pairs = [bench.connect() for _ in range(8)]
    for _ in range(500):
        client, connection = chance.choice(pairs)
        match chance.randrange(9):
            case 0 | 1 | 2 if client.fileno() >= 0:
                with suppress(OSError):
                    client.send(chance.choice([GET, GET * 5, HALF, GET[:9], b"\r\n", b"x" * 99]))
            case 3:
                client.close()
            case 4 if bench.given:
                answered, _, _ = bench.given.pop(chance.randrange(len(bench.given)))
                if state(answered) is State.ANSWERING:
                    answered.outbox.sendall(b"y" * chance.choice([1, 3000, 9000]))
                    bench.connections.finished(answered, chance.random() < 0.7)
            case 5:
                bench.after(chance.random())
            case 6:
                bench.threads = not bench.threads
            case 7:
                bench.connections.end(connection)
                pairs.remove((client, connection))
                pairs.append(bench.connect())
            case _ if client.fileno() >= 0:
                with suppress(OSError):
                    client.recv(4000)
        bench.connections.ready(connection)  # whether it is or not

        assert bench.held() == sum(one.held for one in bench.register)
        assert bench.held() <= LIMITS.held_bytes + 65_536
