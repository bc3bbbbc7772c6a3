"""Opening a database file."""

import sqlite3
from pathlib import Path

import pytest

from webhook_api.db import connect


def test_a_file_that_is_no_database_is_not_kept_open(tmp_path: Path) -> None:
    garbage = tmp_path / "app.db"
    garbage.write_bytes(b"no database" * 1000)

    with pytest.raises(sqlite3.DatabaseError) as refused:
        connect(garbage, "rw", patience_s=0)

    assert refused.value.__traceback__  # which would keep a connection that was not closed
    assert garbage not in [file.resolve() for file in Path("/proc/self/fd").iterdir()]
