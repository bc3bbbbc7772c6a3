"""A server for all tests of a module that do it no harm."""

from collections.abc import Iterator

import pytest

from tests.server.clients import QUICK
from tests.serving import Server, serving


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    with serving(folder, QUICK, WEB_CONCURRENCY=1, WEB_THREADS=8) as server:
        yield server
