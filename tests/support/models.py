"""Small sentence-transformers models with random weights and a real tokenizer: real code paths in milliseconds."""

from pathlib import Path


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
