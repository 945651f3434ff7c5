"""Units between the steps of a Ray graph: what goes in comes out, and vectors are not copied on the way."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from pipeline.commit.records import NO_TIME
from pipeline.flow.acks import Ack
from pipeline.flow.blocks import SCHEMA, block_of, units_of
from pipeline.flow.unit import EncodedUnit


def encoded(vectors: npt.NDArray[np.float32]) -> EncodedUnit:
    rest: Any = None
    return EncodedUnit(rest, rest, "digest", vectors, "attempt", "cpu", "float32", {"samples": 3}, 7, NO_TIME)


def drawn(texts: int, dimensions: int = 3) -> npt.NDArray[np.float32]:
    return np.random.default_rng(texts).random((texts, dimensions), np.float32)


ACK = Ack("skipped", "unit", "segment", "uri", "message")


@pytest.mark.parametrize(
    "units",
    [
        [],
        [ACK],
        [encoded(drawn(4))],
        [encoded(drawn(0))],
        [encoded(np.asfortranarray(drawn(5)))],
        [encoded(drawn(6)[::2])],
        [ACK, encoded(drawn(2)), encoded(drawn(0)), encoded(drawn(3, 5)), ACK],
    ],
)
def test_what_goes_in_comes_out(units: list[Any]) -> None:
    block = block_of(units)
    assert block.schema == SCHEMA
    assert block.num_rows == len(units)
    sliced = pa.concat_tables([block_of([ACK]), block]).combine_chunks().slice(1)
    for given, found in zip(units, units_of(sliced), strict=True):
        assert type(found) is type(given)
        if isinstance(found, EncodedUnit):
            assert found.vectors.dtype == np.float32
            np.testing.assert_array_equal(found.vectors, given.vectors)
            assert (found.digest, found.gate, found.padded_tokens) == ("digest", {"samples": 3}, 7)
        else:
            assert found == given


def test_a_block_without_rows_holds_nothing() -> None:
    """Ray Data makes some of its own."""
    assert list(units_of(SCHEMA.empty_table())) == []


def test_vectors_are_not_copied_on_the_way() -> None:
    """Each copy takes about a millisecond for two megabytes, in which a GPU stands still; a unit may have two hundred."""
    vectors = drawn(100, 50)
    block = block_of([encoded(vectors)])
    assert block["vectors"].chunk(0).buffers()[2].address == vectors.ctypes.data
    assert len(block["unit"][0].as_buffer()) < vectors.nbytes / 4
    [found] = units_of(block)
    assert isinstance(found, EncodedUnit)
    assert np.shares_memory(found.vectors, vectors)
    assert not found.vectors.flags.writeable
