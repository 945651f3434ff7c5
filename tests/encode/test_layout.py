"""Sorting, cutting and laying out: each text's tokens, and nothing else, at its place."""

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.models.roberta.modeling_roberta import RobertaEmbeddings

from pipeline.encode.layout import Layout, Packed, Padded
from pipeline.encode.texts import Texts, in_given_order, longest_first

PAD = 1
LAYOUTS: list[Layout] = [Packed(None), Packed(PAD), Padded(PAD, left=False), Padded(PAD, left=True)]

lengths_of_texts = st.lists(st.integers(1, 40), min_size=1, max_size=40)


def flat(lengths: list[int]) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    ids = np.arange(2, 2 + sum(lengths), dtype=np.int32)
    return ids, np.cumsum([0, *lengths], dtype=np.int64)


def sort(lengths: list[int]) -> Texts:
    return longest_first(*flat(lengths), "cpu")


@settings(deadline=None)  # the first pass through torch takes its time
@given(st.lists(st.integers(0, 40), max_size=40))
def test_sorted_texts_are_the_same_texts(lengths: list[int]) -> None:
    ids, offsets = flat(lengths)
    texts = longest_first(ids, offsets, "cpu")
    assert texts.lengths.tolist() == sorted(lengths, reverse=True)
    for place, before in enumerate(texts.order):
        found = texts.ids[texts.starts[place] : texts.starts[place + 1]]
        assert found.tolist() == ids[offsets[before] : offsets[before + 1]].tolist()
    vectors = torch.from_numpy(texts.order.astype(np.float32))[:, None]
    assert in_given_order(vectors, texts.order)[:, 0].tolist() == list(range(len(lengths)))


@pytest.mark.parametrize("layout", LAYOUTS)
@settings(deadline=None)  # the first pass through torch takes its time
@given(lengths=lengths_of_texts, budget=st.integers(1, 200))
def test_batches_follow_each_other_and_fit(layout: Layout, lengths: list[int], budget: int) -> None:
    texts = sort(lengths)
    first = 0
    while first < len(texts):
        stop = layout.cut(texts, first, budget)
        assert first < stop <= len(texts)
        assert layout.size(texts, first, stop) <= budget or stop == first + 1
        assert stop == len(texts) or layout.size(texts, first, stop + 1) > budget  # and as large as may be
        first = stop


@settings(deadline=None)  # the first pass through torch takes its time
@given(lengths=lengths_of_texts, data=st.data())
def test_packed_texts_lie_one_behind_the_other(lengths: list[int], data: st.DataObject) -> None:
    texts = sort(lengths)
    first = data.draw(st.integers(0, len(texts) - 1))
    stop = data.draw(st.integers(first + 1, len(texts)))
    features = Packed(None).features(texts, first, stop)
    tokens = slice(texts.starts[first], texts.starts[stop])
    assert torch.equal(features["input_ids"], texts.ids[None, tokens])
    own = texts.lengths[first:stop].tolist()
    assert features["position_ids"].tolist() == [[place for length in own for place in range(length)]]
    assert features["seq_idx"].tolist() == [[index for index, length in enumerate(own) for _ in range(length)]]
    assert features["cu_seq_lens_q"].tolist() == np.cumsum([0, *own]).tolist()
    assert features["cu_seq_lens_q"].dtype == torch.int32
    assert [length for count, length in features["runs"] for _ in range(count)] == own
    assert len({length for _, length in features["runs"]}) == len(features["runs"])


@settings(deadline=None)  # the first pass through torch takes its time
@given(texts=st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=12), min_size=1, max_size=10))
def test_positions_past_padding_are_what_roberta_makes_of_each_text_alone(texts: list[list[int]]) -> None:
    ids = np.array([token for text in texts for token in text], np.int32)
    given = longest_first(ids, np.cumsum([0, *map(len, texts)], dtype=np.int64), "cpu")
    found = Packed(PAD).features(given, 0, len(texts))["position_ids"][0].tolist()
    expected = [
        RobertaEmbeddings.create_position_ids_from_input_ids(torch.tensor([texts[before]]), PAD)[0].tolist()
        for before in given.order
    ]
    assert found == [position for text in expected for position in text]


@pytest.mark.parametrize("left", [False, True])
@settings(deadline=None)  # the first pass through torch takes its time
@given(lengths=st.lists(st.integers(0, 40), min_size=1, max_size=40))
def test_padded_texts_stand_at_their_side(left: bool, lengths: list[int]) -> None:
    texts = sort(lengths)
    features = Padded(PAD, left=left).features(texts, 0, len(texts))
    width = max(1, *lengths)
    assert features["input_ids"].shape == features["attention_mask"].shape == (len(lengths), width)
    for row, length in enumerate(texts.lengths.tolist()):
        place = slice(width - length, width) if left else slice(0, length)
        own = texts.ids[texts.starts[row] : texts.starts[row + 1]]
        expected = torch.full((width,), PAD)
        expected[place] = own
        assert features["input_ids"][row].tolist() == expected.tolist()
        assert features["attention_mask"][row].tolist() == (expected != PAD).long().tolist()
