"""Servers for the tests: a real one, and connections without any."""

from collections.abc import Iterator

import pytest

from tests.server.bench import Bench
from tests.serving import QUICK, Server, serving


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    meta = {"META_APP_SECRET": "a", "META_VERIFY_TOKEN": "b"}
    with serving(folder, QUICK, WEB_CONCURRENCY=1, WEB_THREADS=8, **meta) as server:
        yield server


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.connections.end_all()
    assert len(bench.connections) == 0
    assert bench.held() == 0
    assert not bench.poller.get_map()
    bench.poller.close()
    for client in bench.clients:
        client.close()
