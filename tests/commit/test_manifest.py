"""A manifest that another version of this program wrote."""

import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.commit.manifest import SCHEMA, decode_manifest
from pipeline.commit.records import parsed
from pipeline.errors import RefusedError


@pytest.mark.parametrize(
    "schema",
    [SCHEMA.append(pa.field("later", pa.string())), SCHEMA.remove(0), pa.schema([*list(SCHEMA)[1:], SCHEMA[0]])],
    ids=["one more", "one less", "another order"],
)
def test_a_manifest_of_another_version_is_refused_and_is_no_bug(schema: pa.Schema) -> None:
    """Exit code 1 would have somebody report it; what is to be done is in the message."""
    buffer = io.BytesIO()
    pq.write_table(schema.empty_table(), buffer)
    with pytest.raises(RefusedError, match="use the version that published it") as refused:
        decode_manifest(buffer.getvalue())
    assert refused.value.exit_code == 3


def test_memory_that_runs_out_over_a_record_says_nothing_of_the_record() -> None:
    """ "Something has changed it, restore it" would have somebody restore a million healthy units."""

    def parse(_: bytes) -> None:
        raise pa.ArrowMemoryError("malloc of size 49283072 failed")

    with pytest.raises(MemoryError):
        parsed("/out", "_embedpipe/manifest/1.parquet", b"", parse)
