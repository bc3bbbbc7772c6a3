"""A group commit for the tests, which is closed after each."""

from collections.abc import Iterator

import pytest

from tests.intake.commits import Record, group
from webhook_api.intake.group_commit import GroupCommit
from webhook_api.store.database import Database


@pytest.fixture
def record() -> Iterator[Record]:
    record = Record()
    yield record
    for commits in record.observed:
        commits.close()


@pytest.fixture
def commits(database: Database, record: Record) -> GroupCommit:
    return group(database, record)
