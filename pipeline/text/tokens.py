"""Token ids, exactly those sentence-transformers would feed the model."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer
from tokenizers.normalizers import Lowercase
from tokenizers.normalizers import Sequence as Normalizers

from pipeline.errors import ConfigError, ModelError
from pipeline.model.modules import find_backbone, read_object, transformer_settings

PLAIN_CLASSES = frozenset(
    {"BertTokenizer", "DistilBertTokenizer", "MPNetTokenizer", "RobertaTokenizer", "XLMRobertaTokenizer"}
)

CHUNK_TEXTS = 1024
CHUNK_BYTES = 4 << 20
"""Texts are tokenised in chunks of about this much, so that encodings of a whole unit never lie in memory at once."""


class Tokens:
    """A model's tokenizer, without padding, once without and once with truncation. Not thread-safe."""

    def __init__(self, directory: str, max_tokens: int) -> None:
        """Raises ModelError when the tokenizer can't be read, ConfigError when `max_tokens` leaves no room for text."""
        backbone = find_backbone(Path(directory))
        try:
            whole, cut = _load(backbone, max_tokens)
        except Exception as error:  # tokenizers knows only one kind of exception, and raises that itself
            raise ModelError(f"{backbone}: the tokenizer can't be used: {error}") from error
        special = whole.num_special_tokens_to_add(False)
        if max_tokens <= special:  # tokenizers would not cut at all, or leave nothing of any text
            raise ConfigError(
                f"model.max_tokens is {max_tokens}, and {special} of them are special tokens; set it higher"
            )
        self._whole, self._cut, self.max_tokens = whole, cut, max_tokens

    def encode(
        self, texts: Sequence[str]
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64], npt.NDArray[np.int32]]:
        """Flat ids [T] (int32) cut to the limit, offsets [n+1] (int64), and lengths [n] (int32) before any cut.

        Special tokens are included in all three.
        """
        ids: list[npt.NDArray[np.int32]] = []
        lengths = np.zeros(len(texts), np.int32)
        kept = np.zeros(len(texts), np.int64)
        for first, chunk in _chunks(texts):
            for index, encoding in enumerate(self._whole.encode_batch_fast(chunk), first):
                row = encoding.ids
                lengths[index] = len(row)
                if len(row) > self.max_tokens:
                    row = self._cut.encode(texts[index]).ids
                kept[index] = len(row)
                ids.append(np.array(row, np.int32))
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(kept)])
        return (np.concatenate(ids) if ids else np.zeros(0, np.int32)), offsets, lengths


def _chunks(texts: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    first, size = 0, 0
    for index, text in enumerate(texts):
        if index > first and (size + len(text) > CHUNK_BYTES or index - first >= CHUNK_TEXTS):
            yield first, list(texts[first:index])
            first, size = index, 0
        size += len(text)
    if texts:
        yield first, list(texts[first:])


def _load(backbone: Path, max_tokens: int) -> tuple[Tokenizer, Tokenizer]:
    """The tokenizer as it is, and one that cuts.

    For the classes that say no more than their tokenizer.json it is read as it is: transformers would bring all of torch
    into every process that reads. The parity gate compares the ids with sentence-transformers' own either way.
    """
    settings = read_object(backbone / "tokenizer_config.json")
    file = backbone / "tokenizer.json"
    if file.is_file() and str(settings.get("tokenizer_class")).removesuffix("Fast") in PLAIN_CLASSES:
        whole, direction = Tokenizer.from_file(str(file)), settings.get("truncation_side", "right")
    else:
        from transformers import AutoTokenizer

        loaded = AutoTokenizer.from_pretrained(backbone, local_files_only=True, trust_remote_code=False)
        whole, direction = Tokenizer.from_str(loaded.backend_tokenizer.to_str()), loaded.truncation_side
    whole.no_padding()
    whole.no_truncation()
    if transformer_settings(backbone).get("do_lower_case") and "Lowercase" not in repr(whole.normalizer):
        whole.normalizer = Normalizers([Lowercase(), *([whole.normalizer] if whole.normalizer else [])])
    cut = Tokenizer.from_str(whole.to_str())
    cut.enable_truncation(max_tokens, direction=direction)
    for tokenizer in (whole, cut):  # not in the JSON; True: "[SEP]" in a text is five characters, no special token
        tokenizer.encode_special_tokens = bool(settings.get("split_special_tokens", False))
    return whole, cut
