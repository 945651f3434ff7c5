"""A unit's rows become token ids: every row keeps its place, identical texts are encoded once, nothing is altered."""

import hashlib
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import InputError
from pipeline.model.inspect import inspect_model
from pipeline.text.policy import TextPolicy
from pipeline.text.prepare import REJECTED, Prepared, Preparer
from pipeline.text.tokens import Tokens

Empty = Literal["quarantine", "embed", "refuse"]


URIS = ["a.jsonl"]


def preparer(model: str, *, prompt: str = "", max_tokens: int = 16, empty: Empty = "embed") -> Preparer:
    return Preparer(model, inspect_model(Path(model), "m", None), TextPolicy(prompt, max_tokens, empty))


def unit(texts: list[str | None], kinds: list[str | None] | None = None) -> pa.Table:
    """Rows as a reader gives them; a kind is the reason a row is set aside for."""
    n = len(texts)
    kinds = kinds or [None if text is not None else "null" for text in texts]
    return pa.table(
        {
            "file": pa.array([0] * n, pa.int32()),
            "position": pa.array(range(n), pa.int64()),
            "id": pa.array(range(100, 100 + n), pa.int64()),
            "text": pa.array(texts, pa.string()),
            "kind": pa.array(kinds, pa.string()),
            "reason": pa.array([kind and f"it is {kind}" for kind in kinds], pa.string()),
            "raw": pa.nulls(n, pa.binary()),
            "keep.lang": pa.array(["en"] * n, pa.string()),
        }
    )


def ids_of(prepared: Prepared, text: int) -> list[int]:
    ids: list[int] = prepared.token_ids[prepared.offsets[text] : prepared.offsets[text + 1]].tolist()
    return ids


@pytest.fixture(scope="module")
def tiny(tiny_model: str) -> tuple[Preparer, Tokens]:
    return preparer(tiny_model, prompt="say: "), Tokens(tiny_model, 16)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(["", " ", "a", "b", "A", "a ", "word " * 30]) | st.none(), max_size=20))
def test_every_row_finds_its_own_text_and_no_text_is_encoded_twice(
    tiny: tuple[Preparer, Tokens], texts: list[str | None]
) -> None:
    made, tokens = tiny
    prepared = made.prepare(unit(texts), URIS)
    rows = prepared.rows.to_pylist()
    accepted = [(index, text) for index, text in enumerate(texts) if text is not None]
    assert [(row["position"], row["id"], row["keep.lang"]) for row in rows] == [(n, 100 + n, "en") for n, _ in accepted]
    assert len(prepared.offsets) - 1 == len({text for _, text in accepted})
    assert prepared.rejected["position"].to_pylist() == [n for n, text in enumerate(texts) if text is None]
    for row, (_, text) in zip(rows, accepted, strict=True):
        ids, _, lengths = tokens.encode(["say: " + text])
        assert ids_of(prepared, row["vector"]) == ids.tolist()
        assert (row["token_count"], row["truncated"]) == (lengths[0], lengths[0] > 16)
        assert row["text_hash"] == hashlib.sha256(b"say: " + text.encode()).hexdigest()[:32]


def test_a_text_is_cut_at_the_lower_of_the_two_limits(tiny_model: str) -> None:
    """A limit above what the model can address would be an index error on the device."""
    for asked, due in ((10, 10), (128, 128), (5000, 128)):
        prepared = preparer(tiny_model, max_tokens=asked).prepare(unit(["word " * 400, "w"]), URIS)
        assert np.diff(prepared.offsets).tolist() == [due, 3]
        assert prepared.rows["token_count"].to_pylist() == [402, 3]
        assert prepared.rows["truncated"].to_pylist() == [True, False]


def test_a_text_exactly_as_long_as_the_limit_is_not_cut(tiny_model: str) -> None:
    prepared = preparer(tiny_model, max_tokens=6).prepare(unit(["a b c d", "a b c d e"]), URIS)
    assert prepared.rows["token_count"].to_pylist() == [6, 7]
    assert prepared.rows["truncated"].to_pylist() == [False, True]


BLANK = ["", " ", "\t\r\n", "\u00a0\u2003", "a", None]


def test_empty_texts_are_set_aside_where_that_is_asked_for(tiny_model: str) -> None:
    prepared = preparer(tiny_model, empty="quarantine").prepare(unit(BLANK), URIS)
    assert prepared.rows["position"].to_pylist() == [4]
    assert prepared.rejected.column_names == list(REJECTED)
    assert prepared.rejected["kind"].to_pylist() == ["empty"] * 4 + ["null"]
    assert prepared.rejected["id"].to_pylist() == ["100", "101", "102", "103", "105"]


def test_empty_texts_are_embedded_unless_told_otherwise(tiny_model: str) -> None:
    prepared = preparer(tiny_model).prepare(unit(BLANK), URIS)
    assert prepared.rows["token_count"].to_pylist() == [2, 2, 2, 2, 3]


def test_an_empty_text_can_fail_the_unit(tiny_model: str) -> None:
    made = preparer(tiny_model, empty="refuse")
    with pytest.raises(InputError, match=r"a\.jsonl, position 1: the text is empty"):
        made.prepare(unit(["a", " ", "b"]), URIS)
    assert made.prepare(unit(["a", None]), URIS).rows.num_rows == 1  # what is set aside already isn't judged again


@pytest.mark.parametrize("texts", [[], [None, None]])
def test_a_unit_without_texts_is_a_unit(tiny_model: str, texts: list[str | None]) -> None:
    prepared = preparer(tiny_model).prepare(unit(texts), URIS)
    assert (prepared.rows.num_rows, prepared.rejected.num_rows) == (0, len(texts))
    assert prepared.offsets.tolist() == [0]
    assert prepared.rows.schema.field("truncated").type == pa.bool_()
    assert prepared.rows.schema.field("text_hash").type == pa.string()


def test_all_rows_of_a_rejected_text_are_set_aside(tiny_model: str) -> None:
    prepared = preparer(tiny_model).prepare(unit(["a", "b", None, "a", "c"]), URIS)
    left = prepared.reject(pa.array([0, 2]), "not_finite", "why")
    assert left.rows["position"].to_pylist() == [1]
    rejected = left.rejected.to_pylist()
    assert [(row["position"], row["kind"], row["id"]) for row in rejected] == [
        (2, "null", "102"), (0, "not_finite", "100"), (3, "not_finite", "103"), (4, "not_finite", "104"),
    ]  # fmt: skip
    assert left.rows.num_rows + left.rejected.num_rows == 5
