"""Removed messages: their ids stay known for ever."""

import sqlite3
from contextlib import closing
from hashlib import blake2b

import pytest

from tests.builders import a_message
from tests.conftest import Api
from tests.store.files import differences
from webhook_api.store.connections import Connection
from webhook_api.store.lock import unshared
from webhook_api.store.messages import StoreResult, remove_messages
from webhook_api.store.schema import migrate

DUPLICATE = StoreResult(created=False)


def test_a_batch_of_removed_new_and_repeated_ids_says_which_is_which(api: Api) -> None:
    api.store(*(a_message(message_id=name) for name in "abc"))
    assert remove_messages(api.writer, [1, 3, 99]) == 2

    results = api.store(*(a_message(message_id=name, text="?") for name in "adbcda"))

    assert results == [
        DUPLICATE,
        StoreResult(created=True),
        StoreResult(created=False, conflict=True),
        DUPLICATE,
        DUPLICATE,
        DUPLICATE,
    ]
    assert api.store(a_message(message_id="a")) == [DUPLICATE]


def test_a_tombstone_is_a_digest_under_a_key_of_this_database(api: Api) -> None:
    api.store(a_message(message_id="a\0ß😀"))
    remove_messages(api.writer, [1])

    (key,) = api.rows("SELECT tombstone_key FROM totals")[0]
    expected = blake2b("a\0ß😀".encode(), digest_size=16, key=key).digest()
    assert api.rows("SELECT digest FROM tombstones") == [(expected,)]
    memory = sqlite3.connect(":memory:", isolation_level=None, factory=Connection)
    with closing(unshared(memory)) as other:
        migrate(other)
        assert other.execute("SELECT tombstone_key FROM totals").fetchone() != (key,)


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (
            "INSERT INTO messages SELECT * FROM kept",
            "tombstones m1: is stored, and removed as well",
        ),
        ("UPDATE totals SET tombstone_key = NULL", "totals: the key of the tombstones is missing"),
        ("UPDATE tombstones SET digest = x'00'", "tombstones: 1 are not of 16 bytes"),
    ],
)
def test_verify_names_tombstones_that_cannot_be(api: Api, damage: str, named: str) -> None:
    api.store(a_message())
    api.writer.execute("CREATE TEMP TABLE kept AS SELECT * FROM messages")
    remove_messages(api.writer, [1])

    api.writer.execute(damage)

    assert named in differences(api.path)
