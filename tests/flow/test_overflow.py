"""Vectors that half precision can't hold."""

import itertools
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from sentence_transformers import SentenceTransformer
from support.jobs import make_config, read_rows

import pipeline
from pipeline.encode.placement import Placement
from pipeline.errors import EncodeError, InputError, TransientStorageError
from pipeline.flow import encoding, overflow
from pipeline.flow.isolate import Isolated, NoRoom, isolate
from pipeline.flow.maintenance import list_quarantine
from pipeline.flow.replica import load_replica

LONG = 6
"""Tokens from which on texts overflow the replica below."""

TEXTS = [
    "a cat",
    "the cat sat on the mat and was content",
    "a dog",
    "the dog ran over the field and was gone",
    "two birds",
]


class Overflowing:
    """A real replica that gives NaN for long texts, as a GPU's half precision may."""

    compile_within = None
    fast = True

    def __init__(self, encoder: Any) -> None:
        self._encoder = encoder
        self.placement = Placement("cpu", "float16", "scripted")

    @property
    def stats(self) -> Any:
        return self._encoder.stats

    def encode(self, token_ids: npt.NDArray[np.int32], offsets: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        vectors: npt.NDArray[np.float32] = self._encoder.encode(token_ids, offsets)
        vectors[np.diff(offsets) > LONG] = np.nan
        return vectors


@pytest.fixture
def overflowing(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*arguments: Any) -> Any:
        encoder, gate = load_replica(*arguments)
        return Overflowing(encoder), gate

    monkeypatch.setattr(encoding, "load_replica", load)


@pytest.fixture
def config(tmp_path: Path, tiny_model: str) -> Any:
    rows = (json.dumps({"id": str(number), "text": text}) + "\n" for number, text in enumerate(TEXTS))
    (tmp_path / "in.jsonl").write_text("".join(rows))
    source, out = tmp_path / "in.jsonl", str(tmp_path / "out")
    return make_config(source, out, tiny_model, output__max_rejected_share=0.9)


@pytest.mark.usefixtures("overflowing")
def test_texts_that_overflow_half_precision_have_float32s_vector(config: Any, tiny_model: str) -> None:
    """Set aside, they could be had only by embedding everything anew with another precision."""
    summary = pipeline.run(config)
    assert (summary.exit_code, summary.rows) == (0, len(TEXTS))
    found = read_rows(config.output.path)
    expected = SentenceTransformer(tiny_model, device="cpu").encode(TEXTS)
    for number, vector in enumerate(expected):
        np.testing.assert_allclose(found[str(number)], vector, atol=2e-2 if number % 2 == 0 else 1e-5)


def scripted_float32(monkeypatch: pytest.MonkeyPatch, *script: Exception | dict[int, str] | None) -> list[bool]:
    """One after the other: what is raised, or which texts are poison; None: the real thing. Gives whether the process that asks
    has a replica of its own at the time."""
    real, left = isolate, list(script)
    steps: list[encoding.Encoding] = []
    held: list[bool] = []
    make = encoding.Encoding.__init__

    def init(self: encoding.Encoding, *arguments: Any) -> None:
        make(self, *arguments)
        steps.append(self)

    def scripted(context: Any, threads: Any, ids: Any, offsets: npt.NDArray[np.int64], wait: Any) -> Isolated:
        assert context.model.precision == "exact"
        held.append(steps[-1]._replica is not None)
        answer = left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        if answer is None:
            return real(context, threads, ids, offsets, wait)
        return Isolated(np.ones((len(offsets) - 1, context.dimensions), np.float32), "cpu", "float32", {}, answer)

    monkeypatch.setattr(encoding.Encoding, "__init__", init)
    monkeypatch.setattr(overflow, "isolate", scripted)
    return held


@pytest.mark.usefixtures("overflowing")
@pytest.mark.parametrize("how", ["no room", "poison"])
def test_texts_that_float32_can_not_be_tried_on_are_set_aside_and_the_others_stay(
    config: Any, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """The float32 model may be too large for this machine, and the job has to end all the same."""
    script: Exception | dict[int, str] = NoRoom("no model can be loaded") if how == "no room" else {1: "was killed"}
    held = scripted_float32(monkeypatch, script, script)
    summary = pipeline.run(config)
    assert held == [True, False], "the replica makes room before anything is said of the texts"
    lost = {"no room": ["1", "3"], "poison": ["3"]}[how]
    aside = list_quarantine(config.output.path).to_pylist()
    assert sorted(row["id"] for row in aside) == lost
    assert {row["kind"] for row in aside} == {"not_finite"}
    assert all(("no room to try float32" in row["reason"]) == (how == "no room") for row in aside)
    assert summary.rows == len(TEXTS) - len(lost)


@pytest.mark.usefixtures("overflowing")
@pytest.mark.parametrize(
    "first", [NoRoom("CUDA out of memory"), {0: "its process ended with OutOfMemoryError"}], ids=["loading", "encoding"]
)
def test_where_there_is_no_room_for_both_the_replica_makes_room(
    config: Any, monkeypatch: pytest.MonkeyPatch, first: Exception | dict[int, str]
) -> None:
    """It keeps a GPU's memory as long as it is there, and float32 takes twice as much."""
    assert scripted_float32(monkeypatch, first, None) == []
    summary = pipeline.run(config)
    assert (summary.exit_code, summary.rows, summary.rows_quarantined) == (0, len(TEXTS), 0)


@pytest.mark.usefixtures("overflowing")
@pytest.mark.parametrize(
    "trouble",
    [
        EncodeError("texts were being tried apart, and its process was ended by SIGTERM: somebody has asked it to end"),
        TransientStorageError("no usable answer from the store"),
        InputError("more than 32 texts of one unit end the process that encodes them"),
    ],
    ids=["told to end", "store", "machine"],
)
def test_trouble_that_may_be_over_by_the_next_attempt_sets_no_text_aside(
    config: Any, monkeypatch: pytest.MonkeyPatch, trouble: Exception
) -> None:
    """A service manager tells every process to end, this one too; the rows it was about would be set aside for good."""
    scripted_float32(monkeypatch, trouble, None)
    summary = pipeline.run(config)
    assert (summary.exit_code, summary.rows, summary.rows_quarantined) == (0, len(TEXTS), 0)


@pytest.mark.usefixtures("overflowing")
def test_a_unit_of_too_many_texts_that_end_every_process_fails_with_that_reason(
    config: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an error that may pass, it would be tried in every round of every run, and nothing ever published."""
    many = InputError("more than 32 texts of one unit end the process that encodes them")
    held = scripted_float32(monkeypatch, many, many)
    with pytest.raises(InputError, match="more than 32 texts"):
        pipeline.run(config)
    assert held == [True, False], "not before there was room for them"


def test_the_texts_alone_are_sent_and_come_back_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    context: Any = SimpleNamespace(model=SimpleNamespace(precision="gated"), dimensions=1)
    monkeypatch.setattr(overflow, "replace", lambda record, **changes: SimpleNamespace(**{**vars(record), **changes}))

    def isolate(_context: Any, _threads: object, ids: Any, offsets: Any, _wait: object) -> Isolated:
        sums = [[ids[start:stop].sum()] for start, stop in itertools.pairwise(offsets)]
        return Isolated(np.array(sums, np.float32), "cpu", "float32", {})

    monkeypatch.setattr(overflow, "isolate", isolate)
    ids, offsets = np.arange(10, dtype=np.int32), np.array([0, 1, 3, 6, 10])
    found = overflow.encode_in_float32(
        context, None, ids, offsets, np.array([1, 3]), while_waiting=lambda: None, make_room=lambda: None
    )
    assert found is not None
    np.testing.assert_array_equal(found, [[1 + 2], [6 + 7 + 8 + 9]])
