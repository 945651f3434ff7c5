"""The encoder's vectors are sentence-transformers' own: every standard module, every kind of backbone, all lengths."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from sentence_transformers.sentence_transformer.modules import Dense, Dropout, LayerNorm, Normalize, Pooling, Router
from support.models import HIDDEN, SENTENCES, make_transformer, save_model
from torch import nn

from pipeline.encode import attention
from pipeline.encode.encoder import Encoder, load_model
from pipeline.encode.layout import Packed, Padded
from pipeline.encode.placement import Dtype, Placement, choose_placement
from pipeline.encode.settings import EncoderSettings
from pipeline.model.inspect import inspect_model
from pipeline.model.lock import ModelLock
from pipeline.sample import find_docstrings
from pipeline.text.tokens import Tokens

EXACT = Placement("cpu", "float32", "the test wants it")
WORDS = " ".join(SENTENCES).split()
TEXTS = [
    "",
    " \n\t ",
    "a",
    "東京 <pad> [SEP] </s> ÅB",
    *(" ".join(WORDS[:n]) for n in range(1, 60, 7)),
    " ".join(WORDS * 9),
    "a",
]
"""All lengths: nothing, blank, one token, special tokens in the text, far too long, the same again."""


def encode(
    directory: str,
    lock: ModelLock,
    texts: list[str],
    *,
    prompt: str = "",
    placement: Placement = EXACT,
    threads: int | None = None,
    **options: Any,
) -> npt.NDArray[np.float32]:
    """What the pipeline does with texts between reading and staging."""
    settings = EncoderSettings(options.pop("max_tokens", lock.max_tokens), prompt, **options)
    ids, offsets, _ = Tokens(directory, settings.max_tokens).encode([prompt + text for text in texts])
    encoder = Encoder(directory, lock, placement, settings, threads=threads)
    return encoder.encode(ids, offsets)


def expect(directory: str, lock: ModelLock, texts: list[str], **arguments: Any) -> npt.NDArray[np.float32]:
    """The plain recipe, cut where the model's own limit is."""
    model = load_model(directory, "cpu")
    model.max_seq_length = lock.max_tokens
    return np.asarray(model.encode(texts, batch_size=5, show_progress_bar=False, **arguments))


def assert_same(found: npt.NDArray[np.float32], expected: npt.NDArray[np.float32]) -> None:
    """Row by row within 1e-6 of the row's length; a row of zeros is one in both."""
    assert found.dtype == np.float32
    assert found.shape == expected.shape
    lengths = np.linalg.norm(expected, axis=1)
    distances = np.linalg.norm(found.astype(np.float64) - expected, axis=1)
    assert (distances <= 1e-6 * lengths).all(), (distances / np.maximum(lengths, 1e-30)).tolist()


KINDS = {
    "bert": Packed, "distilbert": Packed, "roberta": Packed, "xlm-roberta": Packed, "modernbert": Packed, "qwen3": Packed,
    "mpnet": Padded, "t5": Padded, "qwen2": Padded,
}  # fmt: skip
"""And how their texts lie: MPNet's attention can't be exchanged, and this Qwen2 has no token for an empty text."""


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_backbone_gives_its_own_vectors(tmp_path: Path, kind: str) -> None:
    """Positions that begin behind the padding index, no special tokens at all, rotary and relative positions, windows,
    fewer heads for keys than for queries, tokens that see only those before them."""
    directory = save_model(tmp_path / "m", [make_transformer(tmp_path / "b", kind), Pooling(HIDDEN, "mean")])
    lock = inspect_model(Path(directory), "m", None)
    expected = expect(directory, lock, TEXTS)
    assert_same(encode(directory, lock, TEXTS), expected)
    assert_same(encode(directory, lock, TEXTS, token_budget=1), expected)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_backbone_takes_the_fast_way(tmp_path: Path, kind: str, dtype: Dtype) -> None:
    """Falling back is silent but for a line in the log: the vectors are right, only late."""
    directory = save_model(tmp_path / "m", [make_transformer(tmp_path / "b", kind), Pooling(HIDDEN, "mean")])
    lock = inspect_model(Path(directory), "m", None)
    encoder = Encoder(directory, lock, Placement("cpu", dtype, ""), EncoderSettings(lock.max_tokens))
    assert encoder.fast
    assert isinstance(encoder._layout, KINDS[kind])


def dense(*, bias: float | None = None, **options: Any) -> Dense:
    module = Dense(HIDDEN, 12, **options)
    if bias is not None:
        nn.init.constant_(module.linear.bias, bias)
    return module


CHAINS: dict[str, Callable[[], list[Any]]] = {
    **{mode: lambda mode=mode: [Pooling(HIDDEN, mode)] for mode in Pooling.POOLING_MODES},  # type: ignore[misc]
    "two modes joined": lambda: [Pooling(HIDDEN, ("cls", "mean")), Normalize()],
    "dense": lambda: [Pooling(HIDDEN, "max"), dense(activation_function=nn.Tanh()), Dropout(0.5)],
    "dense with zero rows": lambda: [
        Pooling(HIDDEN, "mean"),
        dense(bias=-1.0, activation_function=nn.ReLU()),
        Dropout(0.5),
    ],
    "dense on tokens": lambda: [dense(module_input_name="token_embeddings"), Pooling(12, "mean")],
    "dense with residual": lambda: [Pooling(HIDDEN, "cls"), dense(use_residual=True, bias=0.1), Normalize()],
    "layer norm": lambda: [Pooling(HIDDEN, "mean"), LayerNorm(HIDDEN), Normalize()],
    "normalised tokens": lambda: [Normalize("token_embeddings"), Pooling(HIDDEN, "mean")],
    "normalised, then dropout": lambda: [Pooling(HIDDEN, "mean"), Normalize(), Dropout(0.1)],
}


@pytest.mark.parametrize("chain", CHAINS)
def test_every_standard_module_is_run_as_it_is(tmp_path: Path, chain: str) -> None:
    """Dropout left in training mode would make vectors random; a lock with the wrong length would refuse them."""
    directory = save_model(tmp_path / "m", [make_transformer(tmp_path / "b", "bert"), *CHAINS[chain]()])
    lock = inspect_model(Path(directory), "m", None)
    expected = expect(directory, lock, TEXTS)
    assert_same(encode(directory, lock, TEXTS), expected)
    lengths = np.linalg.norm(expected, axis=1)
    assert lock.normalized == bool(np.allclose(lengths, 1.0))
    assert (not lengths.all()) == (chain == "dense with zero rows")


@pytest.mark.parametrize(("normalize", "dimensions"), [(True, 7), (False, 7), (True, 32), (False, 100)])
def test_cut_vectors_are_unit_vectors_again_where_the_model_makes_unit_vectors(
    tmp_path: Path, normalize: bool, dimensions: int
) -> None:
    chain = [make_transformer(tmp_path / "b", "bert"), Pooling(HIDDEN, "mean"), *([Normalize()] if normalize else [])]
    directory = save_model(tmp_path / "m", chain)
    lock = inspect_model(Path(directory), "m", None)
    expected = expect(directory, lock, TEXTS, truncate_dim=dimensions, normalize_embeddings=normalize)
    assert_same(encode(directory, lock, TEXTS, truncate_dim=dimensions), expected)


@pytest.mark.parametrize("mode", ["mean", "weightedmean", "lasttoken", "cls"])
@pytest.mark.parametrize("kind", ["bert", "qwen2"])
def test_pooling_leaves_the_prompt_out_where_the_model_says_so(tmp_path: Path, kind: str, mode: str) -> None:
    """The text behind the prompt still sees it; only the pooling doesn't."""
    backbone = make_transformer(tmp_path / "b", kind, padding_side="left")
    directory = save_model(tmp_path / "m", [backbone, Pooling(HIDDEN, mode, include_prompt=False)])  # type: ignore[arg-type]
    lock = inspect_model(Path(directory), "m", None)
    assert not lock.include_prompt
    texts = [text for text in TEXTS if text.strip()]
    prompt = "numbers of the fox: "
    found = encode(directory, lock, texts, prompt=prompt)
    assert_same(found, expect(directory, lock, texts, prompt=prompt))
    if mode != "lasttoken":
        assert not np.allclose(found, encode(directory, lock, texts, prompt=""))


@pytest.mark.parametrize("mode", ["mean", "lasttoken", "weightedmean"])
def test_texts_are_padded_on_the_side_the_tokenizer_says(tmp_path: Path, mode: str) -> None:
    """Decoders are padded on the left: the last token of every row is then the text's own."""
    backbone = make_transformer(tmp_path / "b", "qwen2", padding_side="left")
    directory = save_model(tmp_path / "m", [backbone, Pooling(HIDDEN, mode)])  # type: ignore[arg-type]
    lock = inspect_model(Path(directory), "m", None)
    texts = [text for text in TEXTS if text]
    assert_same(encode(directory, lock, texts), expect(directory, lock, texts))


@pytest.mark.parametrize("default", ["document", "query", None])
@pytest.mark.parametrize("behind", [False, True])
def test_texts_take_the_route_of_their_task(tmp_path: Path, default: str | None, behind: bool) -> None:
    """Without a task the Router's default route is taken, which needn't be the first one."""
    modules: list[Any] = [make_transformer(tmp_path / "q", "bert", seed=1), Pooling(HIDDEN, "mean")]
    if behind:
        routes = {"query": [dense(bias=0.5)], "document": [dense()]}
        modules = [*modules, Router(routes, default_route=default), Normalize()]  # type: ignore[arg-type]
    else:
        other = [make_transformer(tmp_path / "d", "bert", seed=2), Pooling(HIDDEN, "max")]
        modules = [Router({"query": modules, "document": other}, default_route=default), Normalize()]
    directory = save_model(tmp_path / "m", modules)
    lock = inspect_model(Path(directory), "m", None)
    assert lock.tasks == ("document", "query")
    vectors = {}
    for task in ("query", "document", None):
        vectors[task] = encode(directory, lock, TEXTS, task=task)
        assert_same(vectors[task], expect(directory, lock, TEXTS, **({"task": task} if task else {})))
    assert not np.allclose(vectors["query"], vectors["document"])
    assert np.array_equal(vectors[None], vectors[default or "query"])


def test_the_real_model_on_real_text_in_both_precisions(minilm: str) -> None:
    lib = Path(json.__file__).parents[1]
    texts = [entry.text[:400] for entry in find_docstrings([lib / "json", lib / "email", lib / "http"], 200)]
    assert len(texts) == 200
    lock = inspect_model(Path(minilm), "m", None)
    expected = expect(minilm, lock, texts)
    for placement, bound in ((EXACT, 0.999999), (choose_placement("gated", "cpu"), 0.9999)):
        found = encode(minilm, lock, texts, placement=placement, threads=2)
        assert np.einsum("nd,nd->n", found.astype(np.float64), expected).min() >= bound


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_gpu_gives_the_same_vectors(tmp_path: Path, kind: str, dtype: Dtype) -> None:
    """Packed in float16, padded in float32; on streams of its own and back through pinned memory."""
    directory = save_model(
        tmp_path / "m", [make_transformer(tmp_path / "b", kind), Pooling(HIDDEN, "mean"), Normalize()]
    )
    lock = inspect_model(Path(directory), "m", None)
    expected = expect(directory, lock, TEXTS)
    found = encode(directory, lock, TEXTS, placement=Placement("cuda", dtype, ""), token_budget=200)
    assert np.abs(found - expected).max() < (1e-5 if dtype == "float32" else 5e-3)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_packed_batches_never_make_the_host_wait_for_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One wait a batch, and the GPU is idle while the next one is being queued. The way back waits once a unit, as it must."""
    directory = save_model(tmp_path / "m", [make_transformer(tmp_path / "b", "bert"), Pooling(HIDDEN, "mean")])
    lock = inspect_model(Path(directory), "m", None)
    settings = EncoderSettings(lock.max_tokens, token_budget=50)
    encoder = Encoder(directory, lock, Placement("cuda", "float16", ""), settings)
    ids, offsets, _ = Tokens(directory, lock.max_tokens).encode(TEXTS)
    encoder.encode(ids, offsets)
    forward = encoder._forward

    def watched(*given: Any) -> torch.Tensor:
        torch.cuda.set_sync_debug_mode("error")
        try:
            return forward(*given)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    monkeypatch.setattr(encoder, "_forward", watched)
    before = encoder.stats.batches
    encoder.encode(ids, offsets)
    assert encoder.stats.batches - before > 2


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_way_of_many_equal_texts_is_part_of_the_check_on_a_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No other text of the check comes in such numbers: a kernel that is wrong there alone would be found by nobody."""
    directory = save_model(tmp_path / "m", [make_transformer(tmp_path / "b", "bert"), Pooling(HIDDEN, "mean")])
    lock = inspect_model(Path(directory), "m", None)
    monkeypatch.setattr(attention, "_attend_to_equal", lambda query, *_: query.roll(1, -1))
    assert not Encoder(directory, lock, Placement("cuda", "float16", ""), EncoderSettings(lock.max_tokens)).fast
