"""A batch of messages: each learns its own result, and the first of each id is stored."""

import pytest

from tests.builders import a_message
from tests.conftest import Rows, Store


def test_each_message_of_a_batch_has_its_own_result(store: Store) -> None:
    store(a_message(message_id="old"))

    results = store(
        a_message(message_id="a"),
        a_message(message_id="old"),
        a_message(message_id="b"),
        a_message(message_id="a"),
        a_message(message_id="old", text="other"),
        a_message(message_id="b", text="other"),
        a_message(message_id="c"),
    )

    assert [tuple(one) for one in results] == [
        (True, False), (False, False), (True, False), (False, False),
        (False, True), (False, True), (True, False),
    ]  # fmt: skip


@pytest.mark.parametrize("batch", [["a", "a", "a"], ["b", "a", "b", "a", "c"], ["old", "old"]])
def test_the_first_message_of_each_id_in_a_batch_is_stored(
    store: Store, rows: Rows, batch: list[str]
) -> None:
    store(a_message(message_id="old", text="0"))
    payloads = [a_message(message_id=name, text=str(n)) for n, name in enumerate(batch, start=1)]

    results = store(*payloads)

    first = {name: str(batch.index(name) + 1) for name in batch} | {"old": "0"}
    assert [one.created for one in results] == [
        name != "old" and batch.index(name) == n for n, name in enumerate(batch)
    ]
    assert dict(rows("SELECT message_id, text FROM messages")) == first
