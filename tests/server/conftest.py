"""The servers for the tests."""

from collections.abc import Iterator

import pytest

from tests.serving import HURRIED, QUICK, Server, serving


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    meta = {"META_APP_SECRET": "a", "META_VERIFY_TOKEN": "b"}
    with serving(folder, QUICK, WEB_CONCURRENCY=1, **meta) as server:
        yield server


@pytest.fixture(scope="package")
def hurried(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that waits for its clients only for a moment."""
    folder = tmp_path_factory.mktemp("hurried")
    meta = {"META_APP_SECRET": "a", "META_VERIFY_TOKEN": "b"}
    with serving(folder, QUICK, WEB_CONCURRENCY=1, **HURRIED, **meta) as server:
        yield server
