"""The models that speed is measured with."""

from pathlib import Path


def save_bert_base(directory: Path, minilm: str) -> str:
    """BERT-base's shape with random weights and MiniLM's tokenizer, mean pooling and unit vectors: speed doesn't depend on
    what the weights are."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
    from transformers import AutoTokenizer, BertConfig, BertModel

    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(minilm)
    backbone = directory / "backbone"
    BertModel(BertConfig(vocab_size=len(tokenizer))).save_pretrained(backbone)
    tokenizer.save_pretrained(backbone)
    modules = [Transformer(str(backbone), max_seq_length=512), Pooling(768, "mean"), Normalize()]
    SentenceTransformer(modules=modules, device="cpu").save(str(directory / "model"))
    return str(directory / "model")
