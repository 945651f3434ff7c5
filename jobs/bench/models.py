"""The models that speed is measured with: of the right shape, since it doesn't depend on what the weights are."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

DECODER: dict[str, Any] = {
    "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28, "num_attention_heads": 16,
    "num_key_value_heads": 8, "head_dim": 128, "bos_token_id": None, "eos_token_id": None,
}  # fmt: skip
"""Qwen3-Embedding-0.6B's shape."""


def save_bert_base(directory: Path, minilm: str) -> str:
    """BERT-base's shape, mean pooling."""
    from transformers import BertConfig, BertModel

    return _save(directory, minilm, "mean", lambda words: BertModel(BertConfig(vocab_size=words)))


def save_decoder(directory: Path, minilm: str) -> str:
    """A decoder-style embedder, the last token's vector."""
    from transformers import Qwen3Config, Qwen3Model

    return _save(directory, minilm, "lasttoken", lambda words: Qwen3Model(Qwen3Config(vocab_size=words, **DECODER)))


def _save(directory: Path, minilm: str, pooling: str, make: Callable[[int], Any]) -> str:
    """Random weights, MiniLM's tokenizer, unit vectors."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
    from transformers import AutoTokenizer

    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(minilm)
    backbone, model = directory / "backbone", make(len(tokenizer))
    model.save_pretrained(backbone)
    tokenizer.save_pretrained(backbone)
    modules = [Transformer(str(backbone), max_seq_length=512), Pooling(model.config.hidden_size, pooling), Normalize()]
    SentenceTransformer(modules=modules, device="cpu").save(str(directory / "model"))
    return str(directory / "model")
