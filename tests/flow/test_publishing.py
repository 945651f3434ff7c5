"""`_SUCCESS` around the making of files."""

import pytest
from support.memory import MemoryStore

from pipeline.commit.keys import SUCCESS
from pipeline.errors import IncompleteError
from pipeline.flow.publishing import _unmarked


def test_a_run_that_fails_over_its_files_leaves_no_mark_that_another_set_meanwhile() -> None:
    """Between the removal of the mark and the first file data/ is the head's, so another run may rightly set it."""
    store = MemoryStore()
    store.put(SUCCESS, b"before")

    def fail() -> None:
        with _unmarked(store):
            assert store.get(SUCCESS) is None
            store.put(SUCCESS, b"by another run")
            raise IncompleteError("the store was away")

    with pytest.raises(IncompleteError):
        fail()
    assert store.get(SUCCESS) is None
