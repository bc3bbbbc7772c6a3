"""What all connections of a worker may hold together, and which end for others."""

from concurrent.futures import ThreadPoolExecutor

from tests.server.bench import GET, HALF, LIMITS, Bench, state
from webhook_api.outcome import NotServed
from webhook_api.server.states import State


def test_over_the_bound_the_request_that_waits_longest_is_answered_503(bench: Bench) -> None:
    clients = [bench.connect(HALF) for _ in range(11)]

    states = [state(connection) for _, connection in clients]

    assert states == [State.LINGERING] + [State.ARRIVING] * 10
    assert clients[0][0].recv(1000).startswith(b"HTTP/1.1 503 ")
    assert bench.refused == [NotServed.NO_MEMORY]
    assert bench.held() <= LIMITS.held_bytes


def test_over_the_bound_clients_that_read_are_ended_before_those_that_send(bench: Bench) -> None:
    _, sender = bench.connect(HALF)
    _, reader = bench.connect(GET)
    bench.answer(reader, b"x" * 11_000)

    for _ in range(9):
        bench.connect(HALF)

    assert (state(reader), state(sender)) == (State.ENDED, State.ARRIVING)


def test_requests_that_are_being_answered_count_too(bench: Bench) -> None:
    whole = HALF + b"x" * 100
    states = [bench.connect(whole)[1].state for _ in range(12)]

    assert states.count(State.ANSWERING) == 9
    assert bench.held() <= LIMITS.held_bytes


def test_an_answer_that_is_being_made_delays_other_answers_and_no_request(bench: Bench) -> None:
    _, reader = bench.connect(GET)
    memory = bench.connections.answer_memory(reader)
    memory.take(9000)
    _, sender = bench.connect(HALF + b"x" * 100)

    assert not memory.wait()
    assert state(sender) is State.ANSWERING


def test_a_thread_that_waits_for_memory_goes_on_when_an_answer_is_taken(bench: Bench) -> None:
    _, reader = bench.connect(GET)
    bench.connections.answer_memory(reader).take(10_000)
    _, other = bench.connect(GET)

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(bench.connections.answer_memory(other).wait)
        bench.answer(reader, b"answer")

        assert waiting.result(5)


def test_nothing_is_counted_for_a_connection_that_has_ended(bench: Bench) -> None:
    _, reader = bench.connect(GET)
    memory = bench.connections.answer_memory(reader)
    bench.connections.end(reader)

    memory.take(10_000)

    assert memory.wait()


def test_all_bytes_that_an_answer_keeps_count_even_sent_ones(bench: Bench) -> None:
    client, connection = bench.connect(GET)
    bench.answer(connection, b"x" * 8900)

    assert len(client.recv(1000)) == 1000
    bench.connections.ready(connection)

    assert bench.held() == 8900


def test_the_connection_that_is_idle_longest_ends_for_a_new_one(bench: Bench) -> None:
    _, first = bench.connect(HALF)
    _, second = bench.connect()
    _, third = bench.connect()

    made = [bench.connections.free_one() for _ in range(4)]

    assert made == [True, True, True, False]
    assert [state(one) for one in (first, second, third)] == [State.ENDED] * 3


def test_a_connection_that_is_being_answered_is_not_ended_for_a_new_one(bench: Bench) -> None:
    _, connection = bench.connect(GET)

    assert not bench.connections.free_one()
    assert state(connection) is State.ANSWERING
