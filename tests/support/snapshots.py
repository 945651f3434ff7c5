"""A published snapshot made by hand, so that it can be made wrong in one place at a time.

Two JSONL shards of 8 rows; two units of 4 rows each; one data file a shard. Every edit is applied before hashes and
records are made of what comes after it, so only the check that is meant to catch it can.
"""

import functools
import hashlib
import io
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.commit.keys import data_key, log_key, manifest_key, spec_key
from pipeline.commit.manifest import FileSlice, ManifestUnit, data_files, encode_manifest
from pipeline.commit.records import FileRef, LogEntry, PieceRef
from pipeline.sink.part import rows_digest
from pipeline.sink.schema import Layout, writer_options
from pipeline.source.records import Span
from pipeline.spec import Spec, make_spec
from pipeline.storage.inputs import find
from pipeline.storage.open import open_store
from pipeline.storage.store import Store

SHARDS, ROWS, UNIT_ROWS = 2, 8, 4
PROMPT = "passage: "
MAX_TOKENS = 16


def same(value: Any) -> Any:
    """No edit."""
    return value


@dataclass(frozen=True)
class Edits:
    """What is to be wrong: each takes the right thing and gives the wrong one."""

    table: Callable[[pa.Table], pa.Table] = same  # of the first data file
    data: Callable[[bytes], bytes] = same  # its bytes, before they are hashed
    units: Callable[[list[ManifestUnit]], list[ManifestUnit]] = same
    entry: Callable[[LogEntry], LogEntry] = same
    folder: str = ""  # partition folder of the data files
    recipe: Callable[[dict[str, Any]], dict[str, Any]] = same
    layout: Callable[[dict[str, Any]], dict[str, Any]] = same


@dataclass(frozen=True)
class Made:
    """Where everything is."""

    root: str
    store: Store
    sources: tuple[Path, ...]
    spec: Spec
    units: tuple[ManifestUnit, ...]

    @property
    def keys(self) -> list[str]:
        """The data files."""
        return list(data_files(self.units))

    def replace_file(self, key: str, change: Callable[[bytes], bytes]) -> None:
        """Change an object behind the records' back."""
        data = self.store.get(key)
        assert data is not None
        self.store.put(key, change(data))


def text_of(row: int) -> str:
    """A text that no other row has; every fourth is cut."""
    return f"row {row} of the river" + " and so on" * (10 if row % 4 == 3 else 0)


def make_snapshot(root: str, folder: Path, model: str, edits: Edits | None = None, *, precision: str = "exact") -> Made:
    """Write sources to `folder` and a version 1 made of them to `root`."""
    edits = edits or Edits()
    store = open_store(root)
    spec = _spec(model, edits, precision)
    units: list[ManifestUnit] = []
    sources = []
    for shard in range(SHARDS):
        lines = [
            json.dumps({"id": f"id-{row}", "text": text_of(row)}) + "\n"
            for row in range(shard * ROWS, shard * ROWS + ROWS)
        ]
        path = folder / f"{shard}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(lines), encoding="utf-8")
        sources.append(path)
        right = _table(spec, model, range(shard * ROWS, shard * ROWS + ROWS))
        table = edits.table(right) if shard == 0 else right
        data = _parquet(table)
        data = edits.data(data) if shard == 0 else data
        name = hashlib.sha256(str(shard).encode()).hexdigest()[:32]
        key = data_key(edits.folder, 0, "a" * 32, shard, name)
        file = FileRef(key, len(data), table.num_rows, hashlib.sha256(data).hexdigest())
        store.put_new(key, data)
        units.extend(_units(path, lines, right, file))
    units = edits.units(units)
    _publish(store, spec, units, edits, model)
    return Made(store.root, store, tuple(sources), spec, tuple(units))


def _spec(model: str, edits: Edits, precision: str) -> Spec:
    names = sorted(p.relative_to(model).as_posix() for p in Path(model).rglob("*") if p.is_file())
    files = [[name, hashlib.sha256(Path(model, name).read_bytes()).hexdigest()] for name in names]
    dimensions = 32
    recipe = {
        "model": {"files": files, "modules": [], "dimensions": dimensions, "max_tokens": 128},
        "text": {"column": "text", "template": None},
        "reader": {"format": "auto", "csv_delimiter": ",", "max_text_bytes": 1 << 20},
        "prompt": PROMPT,
        "task": None,
        "max_tokens": MAX_TOKENS,
        "precision": precision,
        "outputs": [{"dimensions": dimensions, "normalized": True}],
    }
    layout = {"id": {"column": "id", "type": "string"}, "keep": [], "partition_by": [], "vector_type": "list"}
    return make_spec(edits.recipe(recipe), edits.layout(layout), None)


def _table(spec: Spec, model: str, rows: range) -> pa.Table:
    """What the pipeline would write for these rows."""
    texts = [PROMPT + text_of(row) for row in rows]
    every, lengths = _encoded(model)
    vectors, tokens = every[rows.start : rows.stop], lengths[rows.start : rows.stop]
    footer = {
        "embedpipe.spec": spec.spec_id,
        "embedpipe.recipe": spec.recipe_id,
        "embedpipe.dimensions": str(spec.dimensions),
        "embedpipe.normalized": "true",
    }
    schema = Layout("string", (), (), spec.dimensions, "list", tuple(footer.items())).file_schema()
    columns = [
        [f"id-{row}" for row in rows],
        vectors.tolist(),
        tokens,
        [count > MAX_TOKENS for count in tokens],
        [hashlib.sha256(text.encode()).hexdigest()[:32] for text in texts],
    ]
    arrays = [pa.array(values, field.type) for values, field in zip(columns, schema, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)


@functools.cache
def _encoded(model: str) -> tuple[np.ndarray, list[int]]:
    """Vectors and token counts of every row of the sources."""
    from sentence_transformers import SentenceTransformer

    encoder = SentenceTransformer(model, device="cpu")
    encoder.max_seq_length = MAX_TOKENS
    texts = [PROMPT + text_of(row) for row in range(SHARDS * ROWS)]
    tokens = [len(ids) for ids in encoder.tokenizer(texts, truncation=False)["input_ids"]]
    return np.asarray(encoder.encode(texts), dtype=np.float32), tokens


def _parquet(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    with pq.ParquetWriter(buffer, table.schema, **writer_options(table.schema)) as writer:
        writer.write_table(table, row_group_size=UNIT_ROWS - 1)
    return buffer.getvalue()


def _units(path: Path, lines: list[str], table: pa.Table, file: FileRef) -> list[ManifestUnit]:
    found = find(str(path))
    assert found is not None
    segment = hashlib.sha256(found.uri.encode()).hexdigest()[:32]
    piece = PieceRef(found.uri, found.version, "bytes", 0, found.size, last=True)
    units = []
    for k in range(ROWS // UNIT_ROWS):
        first = k * UNIT_ROWS
        start, stop = (sum(len(line) for line in lines[:row]) for row in (first, first + UNIT_ROWS))
        own = table.slice(first, UNIT_ROWS)
        units.append(
            ManifestUnit(
                unit=hashlib.sha256(f"{segment}{k}".encode()).hexdigest()[:32],
                generation=0,
                segment=segment,
                k=k,
                eof=first + UNIT_ROWS == ROWS,
                pieces=(piece,),
                spans=(Span(found.uri, found.version, "bytes", start, stop),),
                rows_in=UNIT_ROWS,
                rows_out=UNIT_ROWS,
                rows_quarantined=0,
                quarantine="",
                digest=rows_digest(own["id"], own["text_hash"]),
                device="cpu",
                dtype="float32",
                gate="{}",
                slices=(FileSlice(file, first, UNIT_ROWS),),
            )
        )
    return units


def _publish(store: Store, spec: Spec, units: list[ManifestUnit], edits: Edits, model: str) -> None:
    store.put_new(spec_key(spec.spec_id), spec.document())
    manifest = encode_manifest(units)
    sha256 = hashlib.sha256(manifest).hexdigest()
    reference = FileRef(manifest_key(1, sha256), len(manifest), len(units), sha256)
    store.put_new(reference.key, manifest)
    files = data_files(units).values()
    entry = LogEntry(
        version=1,
        base=0,
        oldest=1,
        spec=spec.spec_id,
        recipe=spec.recipe_id,
        limit=None,
        manifest=reference,
        files=len(files),
        rows=sum(file.rows for file in files),
        bytes=sum(file.bytes for file in files),
        units=len(units),
        rows_in=sum(unit.rows_in for unit in units),
        rows_quarantined=sum(unit.rows_quarantined for unit in units),
        failed={},
        facts={"model": model, "revision": None},
    )
    entry = edits.entry(entry)
    store.put_new(log_key(1), entry.to_json())
    mark = {"version": entry.version, "rows": entry.rows, "files": entry.files}
    store.put("_SUCCESS", json.dumps(mark).encode())


def with_unit(index: int, **changes: Any) -> Edits:
    """One unit of the manifest, changed."""

    def edit(units: list[ManifestUnit]) -> list[ManifestUnit]:
        return [replace(unit, **changes) if at == index else unit for at, unit in enumerate(units)]

    return Edits(units=edit)


def with_column(name: str, change: Callable[[list[Any]], list[Any]]) -> Edits:
    """One column of the first data file, changed; its hashes and records are made afterwards."""

    def edit(table: pa.Table) -> pa.Table:
        index = table.schema.get_field_index(name)
        values = change(table[name].to_pylist())
        field = table.schema.field(index)
        kind = pa.field(name, field.type) if None in values else field
        return table.set_column(index, kind, pa.array(values, field.type)).replace_schema_metadata(
            table.schema.metadata
        )

    return Edits(table=edit)
