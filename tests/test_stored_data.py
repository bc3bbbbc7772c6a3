"""Metrics of what is stored and how much room there is."""

import re
from pathlib import Path

from flask.testing import FlaskClient

from tests.builders import a_message
from tests.conftest import Post


def test_what_is_stored_is_a_metric(client: FlaskClient, post_signed: Post) -> None:
    post_signed(a_message(message_id="m1"))
    post_signed(a_message(message_id="m2"))

    samples = client.get("/metrics").text.splitlines()

    assert {"stored_messages 2.0", "stored_senders 1.0"} <= set(samples)
    assert any(re.fullmatch(r"disk_free_bytes [1-9].*", sample) for sample in samples)


def test_metrics_are_served_without_what_a_lost_database_cannot_tell(
    client: FlaskClient, tmp_path: Path
) -> None:
    (tmp_path / "app.db").unlink()

    response = client.get("/metrics")

    assert response.status_code == 200
    assert "database_size_bytes 0.0" in response.text
    assert "stored_messages" not in response.text
