"""The server for the tests."""

from collections.abc import Iterator

import pytest

from tests.serving import QUICK, Server, serving


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    meta = {"META_APP_SECRET": "a", "META_VERIFY_TOKEN": "b"}
    with serving(folder, QUICK, WEB_CONCURRENCY=1, **meta) as server:
        yield server
