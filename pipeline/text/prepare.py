"""Prepare: a unit's rows → token ids of its distinct texts, and for every row which of them is its own."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import InputError
from pipeline.model.lock import ModelLock
from pipeline.source.records import KEEP_PREFIX
from pipeline.text.policy import TextPolicy
from pipeline.text.tokens import Tokens

REJECTED = ("file", "position", "id", "kind", "reason", "raw")


@dataclass(frozen=True, slots=True)
class Prepared:
    """A unit on its way to the encoder."""

    rows: pa.Table
    """Accepted rows in order: file, position, id, keep.*, token_count int32, truncated bool, text_hash (32 hex),
    vector int32: index of the row's text among the distinct ones."""
    rejected: pa.Table  # columns of REJECTED, id as text
    token_ids: npt.NDArray[np.int32]
    """[T] distinct texts one after the other, special tokens included, cut to the limit"""
    offsets: npt.NDArray[np.int64]  # [distinct texts + 1]

    def reject(self, texts: pa.Array, kind: str, reason: str) -> "Prepared":
        """The same unit with all rows of these distinct texts (indices) set aside."""
        bad = pc.is_in(self.rows["vector"], texts.cast(pa.int32()))
        aside = self.rows.filter(bad)
        n = aside.num_rows
        rejected = pa.table(
            {
                "file": aside["file"],
                "position": aside["position"],
                "id": aside["id"].cast(pa.string()),
                "kind": pa.array([kind] * n, pa.string()),
                "reason": pa.array([reason] * n, pa.string()),
                "raw": pa.nulls(n, pa.binary()),
            }
        )
        rejected = pa.concat_tables([self.rejected, rejected.cast(self.rejected.schema)])
        return replace(self, rows=self.rows.filter(pc.invert(bad)), rejected=rejected)


class Preparer:
    """Holds the tokenizer; one per process, for one thread."""

    def __init__(self, model_directory: str, lock: ModelLock, policy: TextPolicy) -> None:
        self._policy = policy
        self._tokens = Tokens(model_directory, min(policy.max_tokens, lock.max_tokens))

    @property
    def progress(self) -> int:
        """Grows while a unit is tokenised."""
        return self._tokens.progress

    def prepare(self, unit_rows: pa.Table, uris: Sequence[str]) -> Prepared:
        """Rows as the reader gave them → token ids. Identical texts are folded: encoded once, given to every row.

        uris: of the segment's pieces. Raises InputError for empty texts where the policy refuses them.
        """
        unit_rows = self._judge_empty(unit_rows, uris)
        accepted = unit_rows.filter(pc.is_null(unit_rows["kind"]))
        refused = unit_rows.filter(pc.is_valid(unit_rows["kind"])).select(REJECTED)
        refused = refused.set_column(2, "id", refused["id"].cast(pa.string()))
        texts = accepted["text"].to_pylist()
        index: dict[str, int] = {}
        own = np.fromiter((index.setdefault(text, len(index)) for text in texts), np.int32, len(texts))
        embedded = [self._policy.prompt + text for text in index]
        ids, offsets, lengths = self._tokens.encode(embedded)
        hashes = pa.array([hash_text(text) for text in embedded], pa.string())
        counts = lengths[own]
        keep = [name for name in accepted.column_names if name.startswith(KEEP_PREFIX)]
        rows = accepted.select(["file", "position", "id", *keep])
        rows = rows.append_column("token_count", pa.array(counts, pa.int32()))
        rows = rows.append_column("truncated", pa.array(counts > self._tokens.max_tokens))
        rows = rows.append_column("text_hash", hashes.take(pa.array(own)))
        rows = rows.append_column("vector", pa.array(own))
        return Prepared(rows, refused, ids, offsets)

    def _judge_empty(self, rows: pa.Table, uris: Sequence[str]) -> pa.Table:
        if self._policy.empty == "embed":
            return rows
        blank = pc.equal(pc.utf8_trim_whitespace(rows["text"]), "")
        blank = pc.and_(pc.fill_null(blank, False), pc.is_null(rows["kind"]))
        if self._policy.empty == "refuse" and pc.any(blank).as_py():
            first = rows.filter(blank).slice(0, 1).to_pylist()[0]
            uri = uris[first["file"]]
            raise InputError(f"{uri}, position {first['position']:,}: the text is empty, and rows.empty is refuse", uri)
        kind = pc.if_else(blank, pa.scalar("empty"), rows["kind"])
        reason = pc.if_else(blank, pa.scalar("the text is empty or whitespace only"), rows["reason"])
        names = rows.column_names
        rows = rows.set_column(names.index("kind"), "kind", kind)
        return rows.set_column(names.index("reason"), "reason", reason)


def hash_text(text: str) -> str:
    """What the `text_hash` column holds: the first 32 hexadecimal characters of the sha256 of prompt + text in UTF-8."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]
