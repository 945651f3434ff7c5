"""Input files that carry code where readers unpickle what they find: extension types, metadata, names."""

import pickle
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from faults.security.case import Case, World, job

from pipeline.errors import EmbedpipeError

EXTENSIONS = (
    "arrow.py_extension_type", "ray.data.arrow_tensor", "ray.data.arrow_tensor_v2", "ray.data.arrow_variable_shaped_tensor",
    "ray.data.arrow_pickled_object", "ray.data.arrow_python_object", "datasets.features.features.Array2DExtensionType",
    "pandas.period", "pandas.interval", "arrow.fixed_shape_tensor", "arrow.json", "arrow.uuid", "arrow.bool8",
    "arrow.opaque", "evil",
)  # fmt: skip
COLUMNS = ("text", "id", "kept", "beside")


def _write(path: Path, schema: pa.Schema) -> None:
    columns = [["one text", "another one"], ["a", "b"], ["x", "y"], ["p", "q"]]
    table = pa.Table.from_arrays([pa.array(values) for values in columns], schema=schema)
    if path.suffix == ".parquet":
        pq.write_table(table, path)
        return
    opened = pa.ipc.new_file if path.suffix == ".arrow" else pa.ipc.new_stream
    with opened(str(path), schema) as writer:
        for batch in table.to_batches():
            writer.write_batch(batch, custom_metadata=dict(schema.metadata or {}))


def _schema(column: str, metadata: dict[bytes, bytes], whole: dict[bytes, bytes] | None = None) -> pa.Schema:
    fields = [pa.field(name, pa.string(), metadata=metadata if name == column else None) for name in COLUMNS]
    return pa.schema(fields, metadata=whole)


def _read(name: str, schema: Callable[[bytes], pa.Schema]) -> Callable[[World], None]:
    """Read it as a Ray worker does: with Ray's extension types registered. Rows or a refusal, but no code."""

    def act(world: World) -> None:
        import ray.data  # noqa: F401

        source = world.folder / "in"
        source.mkdir()
        _write(source / name, schema(world.canary.pickled()))
        raw = {
            "input": {"paths": [str(source)], "format": "parquet" if name.endswith("t") else "arrow", "text": "text", "id": "id",
                      "keep": ["kept"]},
            "model": {"name": world.model},
            "output": {"path": str(world.folder / "out")},
        }  # fmt: skip
        try:
            summary = job(raw)
        except EmbedpipeError as error:
            if error.exit_code not in (3, 4):
                raise AssertionError(error.message) from error
        else:
            assert summary.rows == 2

    return act


def _extension(name: str, column: str, wrap: Callable[[bytes], bytes]) -> Callable[[bytes], pa.Schema]:
    return lambda payload: _schema(
        column, {b"ARROW:extension:name": name.encode(), b"ARROW:extension:metadata": wrap(payload)}
    )


def _everywhere(payload: bytes) -> pa.Schema:
    """In every place that some reader has unpickled once."""
    whole = {
        b"pandas": payload,
        b"ray": payload,
        b"huggingface": payload,
        b"org.apache.spark.sql.parquet.row.metadata": payload,
    }
    return _schema("text", {b"PARQUET:field_id": b"7", b"pickle": payload}, whole)


CASES = [
    *(Case(f"{file} with {extension} in {column}", _read(file, _extension(extension, column, bytes)))
      for extension in EXTENSIONS
      for file, column in (("a.parquet", "text"), ("a.parquet", "kept"), ("a.arrow", "text"), ("a.stream", "beside"))),
    *(Case(f"{file} with a pickle in a pickle: {extension}", _read(file, _extension(extension, "kept", pickle.dumps)))
      for extension in EXTENSIONS[:4] for file in ("a.parquet", "a.arrow")),
    *(Case(f"{file} with pickles in its metadata", _read(file, _everywhere)) for file in ("a.parquet", "a.arrow", "a.stream")),
]  # fmt: skip
