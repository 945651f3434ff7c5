"""What somebody else has put under `_SUCCESS`."""

import pytest
from support.memory import MemoryStore

from pipeline.commit.keys import SUCCESS
from pipeline.commit.success import marked_version

FOREIGN = {
    "empty": b"",
    "text": b"done",
    "bytes": b"\xff",
    "no object": b"7",
    "null": b"null",
    "no version": b"{}",
    "a word": b'{"version": "one"}',
    "a list": b'{"version": [1]}',
    "beyond all numbers": b'{"version": 1e999}',
    "not a number": b'{"version": NaN}',
    "many digits": b'{"version": ' + b"9" * 5000 + b"}",
    "deep": b"[" * 100_000,
    "deep inside": b'{"version": ' + b"[" * 100_000,
}


@pytest.mark.parametrize("content", FOREIGN.values(), ids=FOREIGN)
def test_a_mark_that_another_program_wrote_names_no_version(content: bytes) -> None:
    """Spark writes an empty one. One that can't be read at all would end `status` and `run` as a bug of ours."""
    store = MemoryStore()
    store.put(SUCCESS, content)
    assert marked_version(store) is None


def test_a_mark_of_ours_names_its_version() -> None:
    store = MemoryStore()
    assert marked_version(store) is None
    store.put(SUCCESS, b'{"version": 7, "rows": 1, "files": 1}')
    assert marked_version(store) == 7
