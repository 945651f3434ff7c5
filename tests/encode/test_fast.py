"""The fast way and the plain one: what each does to a model, and that the plain one is taken where the fast one is wrong."""

import logging
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
import transformers as hf
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
from support.models import HIDDEN, SENTENCES, make_transformer, save_model

from pipeline.encode import arrange as arranging
from pipeline.encode import encoder as encoding
from pipeline.encode import linear
from pipeline.encode.encoder import Encoder, check_texts
from pipeline.encode.fused import FusedLayer, fuse_layers
from pipeline.encode.layout import Packed, Padded
from pipeline.encode.linear import PrepackedLinear, TorchLinear
from pipeline.encode.placement import Dtype, Placement
from pipeline.encode.settings import EncoderSettings
from pipeline.model.inspect import inspect_model
from pipeline.text.tokens import Tokens


def make(model: str, dtype: Dtype = "float32", **options: Any) -> Encoder:
    lock = inspect_model(Path(model), "m", None)
    return Encoder(model, lock, Placement("cpu", dtype, ""), EncoderSettings(lock.max_tokens), **options)


def encode(encoder: Encoder, model: str, texts: list[str] = SENTENCES) -> npt.NDArray[np.float32]:
    return encoder.encode(*Tokens(model, encoder.max_tokens).encode(texts)[:2])


def count(encoder: Encoder, kind: type) -> int:
    return sum(isinstance(module, kind) for module in encoder._model.modules())


@pytest.fixture(params=["prepacked", "torch"])
def linears(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> type:
    """As on a machine whose torch has oneDNN's entry points, and on one that hasn't."""
    monkeypatch.setattr(linear, "prepacking_works", lambda dtype: request.param == "prepacked")
    return PrepackedLinear if request.param == "prepacked" else TorchLinear


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_bert_becomes_four_products_a_layer(tiny_model: str, linears: type, dtype: Dtype) -> None:
    encoder = make(tiny_model, dtype)
    assert encoder.fast
    assert count(encoder, FusedLayer) == 2
    assert count(encoder, linears) == 8
    assert count(encoder, torch.nn.Linear) == 0
    difference = np.abs(encode(encoder, tiny_model) - encode(plain(tiny_model), tiny_model)).max()
    assert difference < 1e-6 if dtype == "float32" else 1e-5 < difference < 2e-2


def plain(model: str, dtype: Dtype = "float32") -> Encoder:
    """The plain way, taken since the fast one fails."""

    def fail(*_: Any) -> None:
        raise NotImplementedError("no such thing")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoding, "arrange_fast", fail)
        encoder = make(model, dtype)
    assert not encoder.fast
    assert isinstance(encoder._layout, Padded)
    return encoder


@pytest.mark.parametrize(("dtype", "furthest"), [("bfloat16", 2e-2), ("float16", 2e-3)])
@pytest.mark.parametrize("way", [make, plain])
def test_half_precision_is_for_products_only(tiny_model: str, way: Any, dtype: Dtype, furthest: float) -> None:
    """Norms, residuals and pooling in float32 are the difference between a cosine of 0.9999 and 0.99997; and a residual
    stream in float16 overflows in some models. float16 is for GPUs; a CPU computes the same, only slowly."""
    encoder = way(tiny_model, dtype)
    products, others = set(), set()
    for module in encoder._model.modules():
        if isinstance(module, torch.nn.LayerNorm):
            module.register_forward_hook(lambda _m, given, output: others.update({given[0].dtype, output.dtype}))
        if isinstance(module, Pooling):
            module.register_forward_pre_hook(lambda _m, given: others.add(given[0]["token_embeddings"].dtype))
        if isinstance(module, PrepackedLinear | TorchLinear | torch.nn.Linear):
            module.register_forward_hook(lambda _m, _given, output: products.add(output.dtype))
    found = encode(encoder, tiny_model)
    expected = encode(plain(tiny_model), tiny_model)
    assert products == {getattr(torch, dtype)}
    assert others == {torch.float32}
    assert found.dtype == np.float32
    assert 0 < np.abs(found - expected).max() < furthest
    assert np.abs(np.linalg.norm(found, axis=1) - 1).max() < 1e-6


def test_on_a_gpu_the_stream_is_in_half_precision_too(minilm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Norms compute in float32 whatever they are given; what is rounded is what goes from one layer to the next, and the
    gate, which asks for a cosine of 0.9999, has room for it. Pooling and what follows stay float32."""
    expected = encode(plain(minilm), minilm)
    cosines = {}
    for devices in (("cuda",), ("cuda", "cpu")):
        monkeypatch.setattr(arranging, "STREAM_IN_HALF", devices)
        streams, pooled = set(), set()
        encoder = make(minilm, "float16")
        for module in encoder._model.modules():
            if isinstance(module, FusedLayer):
                module.register_forward_hook(lambda _m, _given, output, seen=streams: seen.add(output.dtype))
            if isinstance(module, Pooling):
                module.register_forward_pre_hook(
                    lambda _m, given, seen=pooled: seen.add(given[0]["token_embeddings"].dtype)
                )
        assert encoder.fast
        found = encode(encoder, minilm)
        assert (streams, pooled) == ({torch.float16 if "cpu" in devices else torch.float32}, {torch.float32})
        cosines[devices] = np.einsum("nd,nd->n", found.astype(np.float64), expected).min()
    assert 1 - 1e-5 < cosines["cuda", "cpu"] < cosines["cuda",] < 1


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_an_architecture_that_computes_something_else_is_run_the_plain_way(
    tiny_model: str, dtype: Dtype, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A copy of BERT's layer that does one thing differently looks the same from outside."""
    forward = FusedLayer.forward
    monkeypatch.setattr(FusedLayer, "forward", lambda self, *given, **named: forward(self, *given, **named).roll(1, -1))
    encoder = make(tiny_model, dtype)
    assert not encoder.fast
    assert isinstance(encoder._layout, Padded)
    assert count(encoder, FusedLayer) == 0
    assert encoder.stats.batches == 0
    assert "is run the plain way: the fast one gives other vectors" in caplog.text
    monkeypatch.undo()
    assert np.array_equal(encode(encoder, tiny_model), encode(plain(tiny_model, dtype), tiny_model))


def test_an_architecture_that_fails_is_run_the_plain_way(tiny_model: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    plain(tiny_model)
    assert "the fast one fails (NotImplementedError: no such thing)" in caplog.text


def bare_encoder(folder: Path, model: Any, tokenizer: Any, max_tokens: int, dtype: Dtype = "float32") -> Encoder:
    """Of a transformers model with mean pooling."""
    model.save_pretrained(folder / "b")
    tokenizer.save_pretrained(folder / "b")
    directory = save_model(folder / "m", [Transformer(str(folder / "b")), Pooling(model.config.hidden_size, "mean")])
    lock = inspect_model(Path(directory), "m", None)
    return Encoder(directory, lock, Placement("cpu", dtype, ""), EncoderSettings(max_tokens))


SMALL: dict[str, Any] = {
    "hidden_size": HIDDEN, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
    "intermediate_size": 2 * HIDDEN, "max_position_embeddings": 1024, "initializer_range": 0.2,
}  # fmt: skip


@pytest.fixture
def tokenizer(tmp_path: Path) -> Any:
    """One that ends every text in a token of its own, so that texts may be packed."""
    return make_transformer(tmp_path / "t", "qwen3").tokenizer


@pytest.mark.parametrize("window", [300, 600])
def test_a_window_that_attention_is_not_told_of_is_found_out(tmp_path: Path, tokenizer: Any, window: int) -> None:
    """Some architectures have it in the mask only, which packed attention doesn't see; short texts would be right."""
    config = hf.Qwen2MoeConfig(
        vocab_size=len(tokenizer), use_sliding_window=True, sliding_window=window, max_window_layers=0, num_experts=2,
        num_experts_per_tok=1, moe_intermediate_size=HIDDEN, shared_expert_intermediate_size=HIDDEN, **SMALL,
    )  # fmt: skip
    encoder = bare_encoder(tmp_path, hf.Qwen2MoeModel(config), tokenizer, 1024)
    assert isinstance(encoder._layout, Padded)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_an_attention_with_capped_scores_is_left_to_the_model(tmp_path: Path, tokenizer: Any, dtype: Dtype) -> None:
    """Without the cap the vectors are so nearly right that half precision hides it."""
    config = hf.Gemma2Config(vocab_size=len(tokenizer), attn_logit_softcapping=2.0, query_pre_attn_scalar=8, **SMALL)
    encoder = bare_encoder(tmp_path, hf.Gemma2Model(config), tokenizer, 128, dtype)
    assert not encoder.fast
    assert isinstance(encoder._layout, Padded)


def test_a_text_longer_than_a_small_window_is_part_of_the_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ModernBERT's tokens see 128 others: a packed attention that forgets it is right for every shorter text."""
    monkeypatch.setattr(arranging, "attend_packed", without_window)
    transformer = make_transformer(tmp_path / "t", "modernbert")
    config = hf.ModernBertConfig(
        **{**transformer.model.config.to_dict(), "local_attention": 128, "max_position_embeddings": 1024}
    )
    assert not bare_encoder(tmp_path, hf.ModernBertModel(config), transformer.tokenizer, 512).fast
    assert bare_encoder(tmp_path / "short", hf.ModernBertModel(config), transformer.tokenizer, 60).fast


def without_window(*given: Any, sliding_window: int | None = None, **named: Any) -> Any:
    from pipeline.encode.attention import attend_packed

    return attend_packed(*given, **named)


def test_the_texts_of_the_check_are_of_all_kinds(tmp_path: Path) -> None:
    """Equal lengths, special tokens, nothing; and a long one that never repeats itself."""
    tokenizer = make_transformer(tmp_path / "t", "bert").tokenizer
    texts = check_texts(tokenizer)
    assert texts == check_texts(tokenizer)
    words = texts[-1].split()
    assert len(words) >= arranging.CHECK_TOKENS
    assert len(set(words)) > 0.8 * len(words)
    assert any("[MASK]" in text for text in texts)
    lengths = [len(row) for row in tokenizer(texts)["input_ids"]]
    assert len(set(lengths)) < len(lengths)


def test_two_replicas_are_never_there_at_once(tiny_model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """There may be no room for two on a GPU."""
    made: list[weakref.ref[Any]] = []
    load = encoding.load_model

    def spy(*given: Any) -> Any:
        assert [model for model in made if model() is not None] == []
        made.append(weakref.ref(model := load(*given)))
        return model

    monkeypatch.setattr(encoding, "load_model", spy)
    plain(tiny_model)
    assert len(made) == 2


@pytest.mark.parametrize("kind", ["distilbert", "modernbert", "mpnet"])
def test_layers_that_are_not_built_like_berts_are_left(tmp_path: Path, kind: str) -> None:
    model = make_transformer(tmp_path / "b", kind).model
    assert fuse_layers(model, torch.float32, torch.float32) == 0
    assert not any(isinstance(module, FusedLayer) for module in model.modules())


def test_a_decoder_made_of_berts_layers_is_left(tmp_path: Path) -> None:
    """Its tokens see only those before them, which a fused layer doesn't know."""
    model = make_transformer(tmp_path / "b", "bert").model
    model.encoder.layer[1].is_decoder = True
    assert fuse_layers(model, torch.float32, torch.float32) == 0


def test_an_activation_nobody_knows_is_left(tmp_path: Path) -> None:
    model = make_transformer(tmp_path / "b", "bert").model
    model.config.hidden_act = "silu"
    assert fuse_layers(model, torch.float32, torch.float32) == 0


@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "gelu_pytorch_tanh", "relu"])
def test_each_activation_inside_the_product_is_the_models(tmp_path: Path, linears: type, activation: str) -> None:
    transformer = make_transformer(tmp_path / "b", "bert")
    config = transformer.model.config
    config.hidden_act = activation
    other = type(transformer.model)(config)
    other.load_state_dict(transformer.model.state_dict())
    other.save_pretrained(tmp_path / "b")
    model = save_model(tmp_path / "m", [type(transformer)(str(tmp_path / "b")), Pooling(HIDDEN, "mean")])
    encoder = make(model)
    assert encoder.fast
    assert count(encoder, FusedLayer) == 2
    assert np.abs(encode(encoder, model) - encode(plain(model), model)).max() < 1e-6


def test_a_text_with_padding_tokens_in_it_keeps_robertas_positions(tmp_path: Path) -> None:
    """`<pad>` written in a text can be a token, and RoBERTa's positions leave it out."""
    model = save_model(tmp_path / "m", [make_transformer(tmp_path / "b", "roberta"), Pooling(HIDDEN, "mean")])
    ids = np.array([0, 9, 1, 10, 11, 2, 0, 1, 1, 12, 2, 0, 2], np.int32)
    offsets = np.array([0, 6, 11, 13])
    encoder = make(model)
    assert isinstance(encoder._layout, Packed)
    assert np.abs(encoder.encode(ids, offsets) - plain(model).encode(ids, offsets)).max() < 1e-6
