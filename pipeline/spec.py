"""Config + ModelLock + input schema → `recipe_id` and `spec_id`: the identity of what is being made.

    recipe   what a vector depends on: model by content, text extraction, prompt, text policy, precision, dimensions
    spec     the recipe, the row layout (id, kept columns, partitions, unit policy) and a `--limit`, if any

Two runs with the same spec may share and continue each other's work; execution settings are in none of it.
"""

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.config.schema import Config
from pipeline.model.lock import ModelLock
from pipeline.source.records import Extraction, Segment, UnitPolicy

ENCODER_VERSION = 1
"""Raised whenever this program would give another vector for the same recipe."""

CUT_VERSION = 2
"""Raised whenever this program would cut the same rows into other units: work of a segment that was begun otherwise is begun
anew, or rows at the borders would be published twice, or not at all."""

_STABLE = (str, int, bool, type(None))


def canonical_json(value: object) -> bytes:
    """The one JSON text of `value`: keys sorted, no spaces, UTF-8.

    Raises TypeError on anything without stable bytes (floats, sets, objects).
    """
    _check_stable(value, "$")
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _check_stable(value: object, where: str) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise TypeError(f"{where}: key {key!r} is not a string, so the object has no canonical JSON")
            _check_stable(item, f"{where}.{key}")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _check_stable(item, f"{where}[{index}]")
    elif not isinstance(value, _STABLE):
        raise TypeError(f"{where}: a {type(value).__name__} has no stable bytes; use a string or an integer")


def digest(value: object) -> str:
    """sha256 of the canonical JSON, hexadecimal."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


@dataclass(frozen=True, slots=True)
class Spec:
    """The documents that are hashed, and their hashes (hexadecimal, 32 characters)."""

    recipe: dict[str, Any]
    layout: dict[str, Any]
    limit: int | None  # rows, from `--limit`; None: everything
    recipe_id: str
    spec_id: str

    def document(self) -> bytes:
        """What is stored under `_embedpipe/spec/`: everything the hashes hash."""
        return canonical_json({"recipe": self.recipe, "layout": self.layout, "limit": self.limit})

    @property
    def dimensions(self) -> int:
        """Length of a vector."""
        return int(self.recipe["outputs"][0]["dimensions"])

    def same_but_for_limit(self, other: "Spec") -> bool:
        """Whether `other` is this spec, a `--limit` apart."""
        return other.recipe == self.recipe and other.layout == self.layout


def make_spec(recipe: dict[str, Any], layout: dict[str, Any], limit: int | None) -> Spec:
    """Hash a recipe and a layout."""
    recipe_id = digest(recipe)[:32]
    spec_id = digest({"recipe": recipe_id, "layout": layout, "limit": limit})[:32]
    return Spec(recipe, layout, limit, recipe_id, spec_id)


def read_spec(document: bytes) -> Spec:
    """The spec of a stored document."""
    stored = json.loads(document)
    return make_spec(stored["recipe"], stored["layout"], stored["limit"])


def build_spec(config: "Config", lock: ModelLock, extraction: Extraction, limit: int | None = None) -> Spec:
    """The identity of what `config` asks for, given what the names in it stand for."""
    dimensions = min(lock.dimensions, config.model.truncate_dim or lock.dimensions)
    recipe = {
        "model": lock.identity(),
        "text": {"column": extraction.text, "template": extraction.template},
        "reader": {
            "format": config.input.format,
            "csv_delimiter": extraction.csv_delimiter,
            "max_text_bytes": extraction.max_text_bytes,
        },
        "rows": {kind: verdict for kind, verdict in extraction.reject if kind != "duplicate_id"},
        "prompt": prompt_text(config, lock),
        "task": config.model.task,
        "max_tokens": effective_max_tokens(config, lock),
        "precision": config.model.precision,
        "outputs": [{"dimensions": dimensions, "normalized": lock.normalized}],
        "encoder": ENCODER_VERSION,
    }
    layout = {
        "id": {"column": extraction.id, "type": extraction.id_type},
        "keep": [[name, str(kind)] for name, kind in extraction.keep],
        "partition_by": list(config.output.partition_by),
        "vector_type": config.output.vector_type,
        "units": {"rows": config.units.rows, "text_mib": config.units.text_mib, "vector_mib": config.units.vector_mib},
    }
    return make_spec(recipe, layout, limit)


def prompt_text(config: "Config", lock: ModelLock) -> str:
    """The text put before every row: the configured prompt, the model's by name, or its default one.

    Raises ConfigError for a name that the model has no prompt for.
    """
    if config.model.prompt is not None:
        return config.model.prompt
    name = config.model.prompt_name or lock.default_prompt_name
    return lock.prompt_named(name) if name else ""


def effective_max_tokens(config: "Config", lock: ModelLock) -> int:
    """Where texts are cut: the configured limit, but never more than the model can address."""
    return min(config.model.max_tokens or lock.max_tokens, lock.max_tokens)


def unit_policy(config: "Config") -> UnitPolicy:
    """The caps on one unit, in rows and bytes."""
    return UnitPolicy(config.units.rows, config.units.text_mib << 20, config.units.vector_mib << 20)


def segment_id(spec_id: str, segment: Segment, extraction: Extraction) -> str:
    """Identity of a segment's rows: 32 hexadecimal characters.

    A file's path below the root counts only where rows are named after it, and its folders only where a column comes
    from them: moving the root redoes nothing else.
    """
    named_by_path = extraction.id is None
    pieces = []
    for piece in segment.pieces:
        file = piece.file
        pieces.append(
            {
                "uri": file.uri,
                "version": file.version,
                "format": file.format,
                "compression": file.compression,
                "measure": piece.measure,
                "start": piece.start,
                "stop": piece.stop,
                "path": file.path if named_by_path else None,
                "folders": [list(pair) for pair in file.folders],
            }
        )
    return digest({"spec": spec_id, "cut": CUT_VERSION, "pieces": pieces})[:32]


def unit_id(segment: str, k: int) -> str:
    """Identity of the k-th unit of a segment: 32 hexadecimal characters, of which the first are its segment's.

    So that what belongs to a segment can be told from a listing of units. 96 bits are enough for any number of segments.
    """
    return f"{units_of(segment)}{k:08x}"


def gate_unit(spec: str) -> str:
    """The name under which runs of a spec note that their parity gate is being measured, as if it were a unit."""
    return digest({"gate": spec})[:32]


def units_of(segment: str) -> str:
    """What the identities of a segment's units begin with."""
    return segment[:24]


def number_of(unit: str) -> int:
    """Which of its segment's units this is: the k of `unit_id`."""
    return int(unit[24:], 16)
