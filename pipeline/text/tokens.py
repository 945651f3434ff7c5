"""Token ids, exactly those sentence-transformers would feed the model."""

from collections.abc import Iterator, Sequence
from itertools import chain
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


PROBED_TOKENS = 5
"""Tokens of text that the way of cutting is tried with."""


class Tokens:
    """A model's tokenizer, without padding. Not thread-safe.

    progress: grows while `encode` works, which for a large unit takes minutes.
    """

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
        self._frame = _find_frame(whole, cut, special)
        self.progress = 0

    def encode(
        self, texts: Sequence[str]
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64], npt.NDArray[np.int32]]:
        """Flat ids [T] (int32) cut to the limit, offsets [n+1] (int64), and lengths [n] (int32) before any cut.

        Special tokens are included in all three.
        """
        ids = [np.zeros(0, np.int32)]
        lengths, kept = np.zeros(len(texts), np.int32), np.zeros(len(texts), np.int64)
        for first, chunk in _chunks(texts):
            rows = [encoding.ids for encoding in self._whole.encode_batch_fast(chunk)]
            here = slice(first, first + len(rows))
            lengths[here] = [len(row) for row in rows]
            rows = [
                row if len(row) <= self.max_tokens else self._shorten(row, text)
                for row, text in zip(rows, chunk, strict=True)
            ]
            kept[here] = [len(row) for row in rows]
            ids.append(np.fromiter(chain.from_iterable(rows), np.int32, int(kept[here].sum())))
            self.progress += 1
        return np.concatenate(ids), np.concatenate([np.zeros(1, np.int64), np.cumsum(kept)]), lengths

    def _shorten(self, row: list[int], text: str) -> list[int]:
        """The ids of a text that is too long, cut to the limit inside its frame of special tokens."""
        if self._frame is None:
            return list(self._cut.encode(text).ids)
        before, after, from_left = self._frame
        room = self.max_tokens - before - after
        inner = row[before : len(row) - after]
        return row[:before] + (inner[-room:] if from_left else inner[:room]) + row[len(row) - after :]


def _find_frame(whole: Tokenizer, cut: Tokenizer, special: int) -> tuple[int, int, bool] | None:
    """How many special tokens stand before and behind any text, and whether what is cut off is its beginning; None where a
    tokenizer does something else, and has to cut itself, which takes it as long again as the whole text did."""
    probe = Tokenizer.from_str(whole.to_str())
    probe.encode_special_tokens = whole.encode_special_tokens
    direction = cut.truncation["direction"] if cut.truncation else "right"
    from_left = direction == "left"
    probe.enable_truncation(special + PROBED_TOKENS, direction=direction)
    text = "one 2 three, four; five 6 seven! eight"
    row, expected = whole.encode(text).ids, probe.encode(text).ids
    inner = whole.encode(text, add_special_tokens=False).ids
    before = next((n for n in range(special + 1) if row[n : len(row) - special + n] == inner), None)
    if before is None or len(inner) <= PROBED_TOKENS:
        return None
    kept = inner[-PROBED_TOKENS:] if from_left else inner[:PROBED_TOKENS]
    framed = row[:before] + kept + row[len(row) - special + before :]
    return (before, special - before, from_left) if framed == expected else None


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
