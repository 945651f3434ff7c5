"""A model directory as sentence-transformers writes one, made without torch: to be found, hashed and tokenised with, while
the scripted encoder stands in for its vectors."""

import json
import string
from pathlib import Path
from typing import Any

import numpy as np
from faults.encoder import DIMENSIONS
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
LONGEST = 512  # tokens, which are letters here


def save_letters(directory: Path, seed: int = 0) -> str:
    """A BERT whose tokens are single letters, digits and signs. Another seed gives other weights."""
    directory.mkdir(parents=True, exist_ok=True)
    _write(directory / "modules.json", [_module(0, "", "Transformer"), _module(1, "1_Pooling", "Pooling")])
    _write(directory / "config.json", {"model_type": "bert", "hidden_size": DIMENSIONS, "pad_token_id": 0})
    _write(directory / "sentence_bert_config.json", {"max_seq_length": LONGEST})
    _write(directory / "tokenizer_config.json", {"tokenizer_class": "BertTokenizer", "model_max_length": LONGEST})
    (directory / "1_Pooling").mkdir(exist_ok=True)
    _write(directory / "1_Pooling" / "config.json", {"embedding_dimension": DIMENSIONS, "pooling_mode": "mean"})
    _tokenizer().save(str(directory / "tokenizer.json"))
    positions = np.random.default_rng(seed).standard_normal((LONGEST, DIMENSIONS)).astype(np.float32)
    save_file({"embeddings.position_embeddings.weight": positions}, directory / "model.safetensors")
    return str(directory)


def swap_letters(tokenizer: Path) -> None:
    """Make it another tokenizer of the same size: no text keeps its ids."""
    saved = json.loads(tokenizer.read_text())
    vocab: dict[str, int] = saved["model"]["vocab"]
    for one, other in (("o", "i"), ("##o", "##i"), ("##0", "##1")):
        vocab[one], vocab[other] = vocab[other], vocab[one]
    tokenizer.write_text(json.dumps(saved))


def _tokenizer() -> Tokenizer:
    letters = sorted(set(string.ascii_lowercase + string.digits + string.punctuation))
    tokens = (*SPECIAL, *letters, *(f"##{letter}" for letter in letters))
    vocab = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]", max_input_chars_per_word=LONGEST))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", vocab["[SEP]"]), ("[CLS]", vocab["[CLS]"]))
    return tokenizer


def _module(number: int, path: str, kind: str) -> dict[str, Any]:
    return {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{kind}"}


def _write(path: Path, value: object) -> None:
    path.write_text(json.dumps(value))
