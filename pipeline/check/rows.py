"""Checks of the rows themselves, one record batch at a time."""

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.check.report import Findings

NORM_TOLERANCE = 1e-3
"""A unit vector's norm may be off by this much: float32 results of half-precision arithmetic stay well within."""


@dataclass(frozen=True, slots=True)
class RowRules:
    """What every row must satisfy."""

    dimensions: int
    normalized: bool
    max_tokens: int
    empty_hash: str  # text_hash of the empty text: only it may have no tokens at all


def check_rows(table: pa.Table, rules: RowRules, place: str, findings: Findings) -> None:
    """Checks `ids present`, `text hashes`, `token counts`, `truncation` and those of the vectors."""
    if missing := table["id"].null_count:
        findings.add("ids present", f"{place}: {missing} null ids", missing)
    if pa.types.is_string(table["id"].type) and (empty := _count(pc.equal(table["id"], ""))):
        findings.add("ids present", f"{place}: {empty} empty ids", empty)
    _check_hashes(table, place, findings)
    _check_tokens(table, rules, place, findings)
    _check_vectors(table["embedding"], rules, place, findings)


def _check_hashes(table: pa.Table, place: str, findings: Findings) -> None:
    bad = _count(pc.invert(pc.fill_null(pc.match_substring_regex(table["text_hash"], "^[0-9a-f]{32}$"), False)))
    if bad:
        findings.add("text hashes", f"{place}: {bad} rows without 32 hexadecimal characters", bad)


def _check_tokens(table: pa.Table, rules: RowRules, place: str, findings: Findings) -> None:
    tokens = pc.fill_null(table["token_count"], -1)
    empty = pc.fill_null(pc.equal(table["text_hash"], rules.empty_hash), False)
    wrong = pc.or_(pc.less(tokens, 0), pc.and_(pc.equal(tokens, 0), pc.invert(empty)))
    if bad := _count(wrong):
        findings.add("token counts", f"{place}: {bad} rows with text but no tokens", bad)
    cut = pc.greater(tokens, rules.max_tokens)
    if bad := _count(pc.not_equal(cut, pc.fill_null(table["truncated"], False))) + table["truncated"].null_count:
        findings.add("truncation", f"{place}: {bad} rows whose `truncated` isn't token_count > {rules.max_tokens}", bad)


def _check_vectors(vectors: pa.ChunkedArray, rules: RowRules, place: str, findings: Findings) -> None:
    lengths = pc.fill_null(pc.list_value_length(vectors), 0)
    if bad := _count(pc.not_equal(lengths, rules.dimensions)):
        findings.add("dimensions", f"{place}: {bad} vectors are not of {rules.dimensions} dimensions", bad)
        return
    matrix = as_matrix(vectors, rules.dimensions)
    finite = np.isfinite(matrix).all(axis=1)
    if bad := int(np.count_nonzero(~finite)):
        first = int(finite.argmin())
        findings.add("finite", f"{place}: {bad} vectors with NaN, infinity or null, the first in row {first}", bad)
    if not rules.normalized:
        return
    norms = np.sqrt(np.einsum("ij,ij->i", matrix, matrix, dtype=np.float64))
    off = finite & (np.abs(norms - 1.0) > NORM_TOLERANCE) & (norms != 0.0)  # a ReLU may leave nothing but zeros
    if bad := int(np.count_nonzero(off)):
        first = int(off.argmax())
        findings.add("norms", f"{place}: {bad} vectors are not of length 1, row {first} is of {norms[first]:.6f}", bad)


def as_matrix(vectors: pa.ChunkedArray, dimensions: int) -> npt.NDArray[np.float32]:
    """Vectors, all of `dimensions` floats, as float32 [n, dimensions]; a null element becomes NaN."""
    flat = pc.list_flatten(vectors).to_numpy()
    return np.asarray(flat, dtype=np.float32).reshape(-1, dimensions)


class SliceDigest:
    """sha256 over the (id, text hash) pairs of a unit's rows in order: the pairing its commit record vouches for."""

    def __init__(self) -> None:
        self._hasher = hashlib.sha256()

    def update(self, table: pa.Table) -> None:
        """Take in the next rows."""
        for row_id, text_hash in zip(table["id"].to_pylist(), table["text_hash"].to_pylist(), strict=True):
            name = str(row_id)
            self._hasher.update(f"{len(name)}:{name}{text_hash};".encode())

    def hexdigest(self) -> str:
        """The digest so far."""
        return self._hasher.hexdigest()


def _count(mask: Any) -> int:
    return int(pc.sum(mask).as_py() or 0)
