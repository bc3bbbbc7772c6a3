"""The service with all three providers."""

from pathlib import Path

import pytest

from tests.providers.samples import a_config
from webhook_api.config import Config


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return a_config(tmp_path)
