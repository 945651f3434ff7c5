"""A published snapshot's card: what is in it and how it was made, as a README for people and dataset hubs."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pipeline.commit.snapshot import Snapshot, read_stored_spec
from pipeline.config.yaml_text import write_yaml
from pipeline.errors import ConfigError
from pipeline.export.snapshot import Published, describe, find_snapshot
from pipeline.spec import Spec
from pipeline.storage.open import open_store

SIZES = ("1K", "10K", "100K", "1M", "10M", "100M", "1B", "10B", "100B", "1T")
"""Bounds of the sizes that dataset hubs sort by."""

MEANINGS = {
    "id": "the row's own id",
    "embedding": "the vector",
    "token_count": "tokens of the text, special ones and prompt included, before it was cut",
    "truncated": "whether the model took the beginning only",
    "text_hash": "of the text as it was embedded, prompt included",
}

GENERATED_ID = "`file#place`: the row's number, in JSONL and plain text its first byte"


def make_card(output: str, version: int | None = None, quality: Sequence[Mapping[str, Any]] = ()) -> str:
    """Markdown. quality: documents of `embedpipe evaluate --json`, with or without --compare.

    Raises InputError as `list_files` does, ConfigError for a quality that is no such document or of other vectors.
    """
    store = open_store(output)
    snapshot = find_snapshot(store, version)
    spec = read_stored_spec(store, snapshot.entry.spec)
    published = describe(output, snapshot.entry.version)
    head = write_yaml(
        {"tags": ["embeddings", "sentence-transformers"], "size_categories": [_size(snapshot.entry.rows)]}
    )
    return "\n\n".join([f"---\n{head}---", *_parts(snapshot, spec, published, quality)]) + "\n"


def _parts(snapshot: Snapshot, spec: Spec, published: Published, quality: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    entry, facts = snapshot.entry, snapshot.entry.facts
    yield f"# {published.root.rstrip('/').rpartition('/')[2]}"
    yield (
        f"{entry.rows:,} rows with the {published.dimensions}-dimensional embeddings of {facts['model']}, each row once, as "
        f"Parquet. Version {entry.version}, published {facts['published_at']} by embedpipe {facts['program']}."
    )
    yield "## Model"
    yield table(("", ""), list(_model(spec, facts)))
    yield "## Data"
    yield table(("", ""), list(_data(snapshot, published)))
    yield table(("column", "type", ""), list(_columns(published, spec)))
    yield "## Parity"
    yield _parity(snapshot)
    if quality:
        yield "## Quality"
        for one in quality:
            yield _quality(one, snapshot, spec)
    yield "## How to load"
    yield (
        "```python\n"
        "import pipeline\n\n"
        f"dataset = pipeline.open_snapshot({published.root!r}, version={entry.version})  # a pyarrow dataset\n"
        "print(dataset.count_rows(), dataset.schema.names)\n"
        "```"
    )
    yield (
        "A warehouse takes the files that `embedpipe files` lists; with `--load duckdb`, `spark`, `clickhouse`, `bigquery` or "
        "`snowflake` it prints the statement."
    )


def _model(spec: Spec, facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    recipe = spec.recipe
    yield "model", f"{facts['model']}"
    if facts["revision"]:
        yield "revision", f"{facts['revision']}"
    yield "sha256 of the weights", f"`{facts['weights']}`"
    yield "longest text", f"{recipe['max_tokens']:,} tokens"
    yield "dimensions", f"{facts['dimensions']:,} of {recipe['model']['dimensions']:,}"
    yield "vectors", "of length 1" if facts["normalized"] else "as long as the model makes them"
    if recipe["prompt"]:
        yield "prompt", f"`{json.dumps(recipe['prompt'], ensure_ascii=False)}` before every text"
    if recipe["task"]:
        yield "task", f"{recipe['task']}"


def _data(snapshot: Snapshot, published: Published) -> Iterator[tuple[str, str]]:
    entry = snapshot.entry
    yield "rows", f"{entry.rows:,}" + (f", the first ones only (`--limit {entry.limit}`)" if entry.limit else "")
    yield "rows set aside", f"{entry.rows_quarantined:,}"
    if entry.failed:
        yield "files that could not be read", f"{len(entry.failed):,}"
    yield "Parquet files", f"{len(published.files):,}, {sum(file.bytes for file in published.files) / 1e6:,.1f} MB"
    yield "spec", f"`{entry.spec}`"


def _columns(published: Published, spec: Spec) -> Iterator[tuple[str, str, str]]:
    """In the files' order: the source's, the vector, then what embedpipe adds."""
    own = [name for name in MEANINGS if name not in ("id", "embedding")]
    source = [(name, kind) for name, kind in published.columns if name not in own]
    added = [(name, kind) for name, kind in published.columns if name in own]
    vector = ("embedding", f"{spec.layout['vector_type']} of {published.dimensions} float32")
    for name, kind in (*source, vector, *added):
        meaning = GENERATED_ID if name == "id" and spec.layout["id"]["column"] is None else MEANINGS.get(name)
        yield f"`{name}`", kind, meaning or "as in the source"
    for name, kind in published.partition_columns:
        yield f"`{name}`", kind, "as in the source; in the folder's name"


def _parity(snapshot: Snapshot) -> str:
    """What the replicas measured, the worst of all by device and number format."""
    worst: dict[tuple[str, str], tuple[float, float]] = {}
    for unit in snapshot.units:
        gate = json.loads(unit.gate or "{}")
        if "min_cosine" in gate:
            cosine, distance = worst.get((unit.device, unit.dtype), (1.0, 0.0))
            measured = float(gate["min_cosine"]), float(gate["max_relative_l2"])
            worst[unit.device, unit.dtype] = min(cosine, measured[0]), max(distance, measured[1])
    if not worst:
        return "Nothing was encoded."
    rows = [
        (device, dtype, f"{cosine:.7f}", f"{distance:.1e}")
        for (device, dtype), (cosine, distance) in sorted(worst.items())
    ]
    return (
        "Before its first row each replica's vectors were held against `SentenceTransformer.encode` in float32:\n\n"
        + table(("device", "computed in", "lowest cosine", "largest relative L2 distance"), rows)
    )


def _quality(quality: Mapping[str, Any], snapshot: Snapshot, spec: Spec) -> str:
    """Raises ConfigError for a document that isn't one, or is about other vectors."""
    try:
        _check_same(quality, snapshot, spec)
        return _of_sets(quality) if "sets" in quality else _of_settings(quality, snapshot, spec)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConfigError(
            "the quality is not what `embedpipe evaluate --json` writes, with or without --compare; expected its one JSON "
            "document"
        ) from error


def _check_same(quality: Mapping[str, Any], snapshot: Snapshot, spec: Spec) -> None:
    """A comparison is of several settings, and names them; their texts have one prompt, those of sets may have their own."""
    facts, recipe = snapshot.entry.facts, spec.recipe
    compared = [("weights", quality["weights"], facts["weights"])]
    if "sets" in quality:
        compared += [(name, quality[name], here) for name, here in _shape(spec).items()]
    for texts in quality.get("sets", (quality,)):
        compared += [(name, texts[name], recipe[name]) for name in ("prompt", "task")]
    for name, measured, here in compared:
        if measured != here:
            raise ConfigError(_other(name, repr(measured), repr(here)))
    formats = _formats(snapshot)
    if "sets" in quality and formats and not formats.issuperset(quality["dtype"].split(", ")):
        raise ConfigError(_other("dtype", quality["dtype"], " and ".join(sorted(formats))))


def _other(name: str, measured: str, here: str) -> str:
    return (
        f"the quality was measured with other vectors: its {name} is {measured}, the snapshot's is {here}; evaluate with the "
        "model section of the snapshot's job, on a machine of the same kind"
    )


def _shape(spec: Spec) -> dict[str, int]:
    return {"dimensions": spec.dimensions, "max_tokens": int(spec.recipe["max_tokens"])}


def _formats(snapshot: Snapshot) -> set[str]:
    """Number formats that the snapshot's vectors were computed in."""
    return {unit.dtype for unit in snapshot.units if unit.dtype}


def _of_sets(quality: Mapping[str, Any]) -> str:
    rows = [
        (
            str(one["name"]),
            measure.replace("_", " "),
            "not defined" if value is None else f"{_finite(value):.4f}",
            f"{one['size']:,} {one['of']}",
        )
        for one in quality["sets"]
        for measure, value in one["scores"].items()
    ]
    how = _cell(f"computed in {quality['dtype']}, compared by {quality['similarity']} similarity")
    return f"Measured on labelled sets, {how}:\n\n" + table(("set", "", "", "of"), rows)


def _of_settings(quality: Mapping[str, Any], snapshot: Snapshot, spec: Spec) -> str:
    settings = []
    for one in quality["settings"]:
        name = str(one["name"])
        if name == "this config":  # whichever was compared
            shape, formats = _shape(spec), _formats(snapshot)
            same = all(one[key] == value for key, value in shape.items()) and one["dtype"] in formats
            name = "this snapshot" if same else "another config"
        settings.append((name, f"`{one['config']}`" if one["config"] else "", f"{_finite(one['recall']):.2%}"))
    return (
        f"Of the ten nearest neighbours by the model's own float32 vectors, over {quality['texts']:,} texts, each setting "
        f"finds what is said below; texts taken blindly would be {_finite(quality['chance']):.2%} of them:\n\n"
        + table(("setting", "", "recall@10"), settings)
    )


def _finite(value: float) -> float:
    """Raises ValueError for NaN and infinities, which Python's JSON has and no measurement here gives."""
    if not math.isfinite(value):
        raise ValueError(f"{value} is no score")
    return value


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """In Markdown."""
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def _cell(text: str) -> str:
    """On one line, which a table's row is."""
    return " ".join(text.splitlines()).replace("|", "\\|")


def _size(rows: int) -> str:
    bounds = [10 ** (3 + power) for power in range(len(SIZES))]
    above = next((at for at, bound in enumerate(bounds) if rows < bound), len(bounds))
    if above == 0:
        return f"n<{SIZES[0]}"
    return f"{SIZES[above - 1]}<n<{SIZES[above]}" if above < len(SIZES) else f"n>{SIZES[-1]}"
