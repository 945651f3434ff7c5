"""Token ids are those sentence-transformers would feed the model, counted before they are cut."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling
from support.models import HIDDEN, SENTENCES, edit_json, make_transformer, save_model

from pipeline.errors import ConfigError, ModelError
from pipeline.text import tokens as module
from pipeline.text.tokens import Tokens

WORDS = " ".join(SENTENCES).split()
TEXTS = [
    "",
    " \n\t ",
    "a",
    "UPPER lower Ärger ÅNGSTRÖM",
    "a [SEP] b </s> c <pad>",
    "東京タワー 👍🏽\u200b\u0000",
    " ".join(WORDS * 5),
]


def saved(tmp_path: Path, kind: str) -> Path:
    return Path(save_model(tmp_path / "m", [make_transformer(tmp_path / "b", kind), Pooling(HIDDEN, "mean")]))


def assert_fed_to_the_model(directory: Path, texts: list[str], max_tokens: int) -> None:
    """What sentence-transformers' own preprocessing gives for each text, and its length uncut."""
    model = SentenceTransformer(str(directory), device="cpu", local_files_only=True)
    ids, offsets, lengths = Tokens(str(directory), max_tokens).encode(texts)
    for index, text in enumerate(texts):
        row = ids[offsets[index] : offsets[index + 1]].tolist()
        model.max_seq_length = max_tokens
        assert row == [int(token) for token in model.preprocess([text])["input_ids"][0]], text
        model.max_seq_length = 1 << 20
        assert lengths[index] == model.preprocess([text])["input_ids"].shape[1], text


@pytest.mark.parametrize("kind", ["bert", "distilbert", "mpnet", "roberta", "xlm-roberta", "modernbert", "qwen2"])
def test_ids_and_counts_are_those_of_sentence_transformers(tmp_path: Path, kind: str) -> None:
    assert_fed_to_the_model(saved(tmp_path, kind), TEXTS, 16)


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("sentence_bert_config.json", {"do_lower_case": True}),
        ("tokenizer_config.json", {"truncation_side": "left"}),
        ("tokenizer_config.json", {"split_special_tokens": True}),
    ],
)
@pytest.mark.parametrize("kind", ["roberta", "modernbert"])  # read as it is, and through transformers
def test_settings_beside_the_tokenizer_count(tmp_path: Path, kind: str, file: str, change: dict[str, Any]) -> None:
    """A cased tokenizer under a lower-casing model gives other tokens without any error."""
    directory = saved(tmp_path, kind)
    before = Tokens(str(directory), 16).encode(TEXTS)[0].tolist()
    edit_json(directory / file, **change)
    assert_fed_to_the_model(directory, TEXTS, 16)
    assert Tokens(str(directory), 16).encode(TEXTS)[0].tolist() != before


def test_settings_under_an_old_name_count_too(tmp_path: Path) -> None:
    """sentence-transformers looks under seven names, and takes the first that says anything."""
    directory = saved(tmp_path, "roberta")
    edit_json(directory / "sentence_roberta_config.json", do_lower_case=True, max_seq_length=16)
    (directory / "sentence_bert_config.json").unlink()
    assert_fed_to_the_model(directory, TEXTS, 16)


def test_what_the_tokenizer_file_says_about_padding_and_cutting_is_left_out(minilm: str) -> None:
    """MiniLM's tokenizer.json pads and cuts at 128; the model takes 256."""
    assert json.loads(Path(minilm, "tokenizer.json").read_text())["truncation"]["max_length"] == 128
    ids, offsets, lengths = Tokens(minilm, 256).encode(["word " * 300, "word"])
    assert np.diff(offsets).tolist() == [256, 3]
    assert lengths.tolist() == [302, 3]
    assert ids[255] == ids[-1] == 102  # a text that is cut still ends in [SEP]


def test_the_tokenizer_of_an_old_model_lies_in_a_folder_of_its_own(tmp_path: Path) -> None:
    """Models of 2019 have the Transformer in `0_Transformer`, not at the top."""
    directory = saved(tmp_path, "bert")
    expected = Tokens(str(directory), 16).encode(TEXTS)[0].tolist()
    inner = directory / "0_Transformer"
    inner.mkdir()
    for path in list(directory.iterdir()):
        if path.is_file() and not path.name.startswith(("modules", "config_sentence", "README")):
            shutil.move(path, inner)
    listing = json.loads((directory / "modules.json").read_text())
    listing[0]["path"] = inner.name
    (directory / "modules.json").write_text(json.dumps(listing))
    assert Tokens(str(directory), 16).encode(TEXTS)[0].tolist() == expected
    assert_fed_to_the_model(directory, TEXTS, 16)


@pytest.mark.parametrize("limit", [0, 1, 2])
def test_a_limit_that_leaves_no_room_for_text_is_refused(tiny_model: str, limit: int) -> None:
    """At 1 tokenizers doesn't cut at all, at 2 every text would be [CLS] [SEP]: one vector for all."""
    with pytest.raises(ConfigError, match=f"max_tokens is {limit}, and 2 of them are special"):
        Tokens(tiny_model, limit)


def test_a_tokenizer_that_can_not_be_read_is_refused(tmp_path: Path) -> None:
    directory = saved(tmp_path, "bert")
    (directory / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match="tokenizer can't be used"):
        Tokens(str(directory), 16)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("kind", ["bert", "roberta", "xlm-roberta", "modernbert", "qwen2"])
def test_a_long_text_is_cut_without_being_tokenised_again(
    tmp_path: Path, kind: str, side: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of long documents each would be tokenised twice, the second time one after the other."""
    directory = saved(tmp_path, kind)
    edit_json(directory / "tokenizer_config.json", truncation_side=side)
    texts = [" ".join(WORDS[:n]) for n in range(1, len(WORDS))]
    tokens = Tokens(str(directory), 9)
    cut = [tokens._cut.encode(text).ids for text in texts]
    monkeypatch.setattr(tokens, "_cut", None)
    ids, offsets, _ = tokens.encode(texts)
    assert [row.tolist() for row in np.split(ids, offsets[1:-1])] == cut


def test_a_tokenizer_that_cuts_in_a_way_of_its_own_is_left_to_it(tmp_path: Path) -> None:
    """Here the text stands there twice, and the copies are cut each for itself."""
    directory = saved(tmp_path, "bert")
    file = directory / "tokenizer.json"
    content = json.loads(file.read_text())
    twice = [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    content["post_processor"] = {"type": "TemplateProcessing", "single": twice, "pair": [], "special_tokens": {}}
    file.write_text(json.dumps(content))
    tokens = Tokens(str(directory), 6)
    text = " ".join(WORDS)
    ids, offsets, _ = tokens.encode([text])
    assert tokens._frame is None
    assert ids.tolist() == tokens._cut.encode(text).ids
    assert offsets.tolist() == [0, len(ids)]


def test_a_unit_that_is_tokenised_for_long_shows_progress(tiny_tokens: Tokens, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process without any is taken for one that hangs."""
    monkeypatch.setattr(module, "CHUNK_TEXTS", 2)
    before = tiny_tokens.progress
    tiny_tokens.encode(["a", "b", "c", "d", "e"])
    assert tiny_tokens.progress == before + 3


@pytest.fixture(scope="module")
def tiny_tokens(tiny_model: str) -> Tokens:
    return Tokens(tiny_model, 16)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text(max_size=60), max_size=8))
def test_texts_are_tokenised_one_by_one_whatever_stands_beside_them(tiny_tokens: Tokens, texts: list[str]) -> None:
    ids, offsets, lengths = tiny_tokens.encode(texts)
    assert (ids.dtype, offsets.dtype, lengths.dtype) == (np.int32, np.int64, np.int32)
    assert len(offsets) == len(texts) + 1
    assert offsets[-1] == len(ids)
    assert np.array_equal(np.diff(offsets), np.minimum(lengths, 16))
    for index, text in enumerate(texts):
        alone, _, length = tiny_tokens.encode([text])
        assert alone.tolist() == ids[offsets[index] : offsets[index + 1]].tolist()
        assert length[0] == lengths[index]


def test_chunks_change_nothing(tiny_tokens: Tokens, monkeypatch: pytest.MonkeyPatch) -> None:
    """Encodings of a whole unit would be gigabytes; a text at the seam of two chunks must not get lost or be doubled."""
    texts = [f"text number {n} " + "long " * (n % 7) for n in range(40)]
    expected = tiny_tokens.encode(texts)
    for count, size in ((1, 1 << 20), (7, 1 << 20), (1 << 20, 50), (3, 1)):
        monkeypatch.setattr(module, "CHUNK_TEXTS", count)
        monkeypatch.setattr(module, "CHUNK_BYTES", size)
        for found, due in zip(tiny_tokens.encode(texts), expected, strict=True):
            assert np.array_equal(found, due)
