"""The service with all three providers, and deliveries in their formats."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import TestResponse

from tests.conftest import Api
from tests.providers.samples import (
    a_config,
    signed_as,
)
from webhook_api.config import Config

Deliver = Callable[..., TestResponse]


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return a_config(tmp_path)


@pytest.fixture
def deliver(api: Api) -> Deliver:
    """Deliver a body as a provider does, with the right signature."""

    def deliver(provider: str, body: bytes, **options: Any) -> TestResponse:
        headers = signed_as(provider, body, now=time.time(), **options)
        return api.client.post(f"/webhook/{provider}", data=body, headers=headers)

    return deliver
