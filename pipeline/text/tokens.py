"""Token ids, exactly those sentence-transformers would feed the model."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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


PROBE, PROBED_TOKENS = "one 2 three, four; five 6 seven! eight", 5
"""What the way of cutting is tried on, and how many tokens of it are left."""


@dataclass(frozen=True, slots=True)
class _Frame:
    """Special tokens that stand around any text."""

    before: int
    behind: int
    from_left: bool  # what is cut off a text is its beginning

    def cut(self, row: list[int], limit: int) -> list[int]:
        """Ids of more than `limit` tokens, without what is too much between the special ones."""
        end, excess = len(row) - self.behind, len(row) - limit
        start = self.before if self.from_left else end - excess
        return row[:start] + row[start + excess :]


class Tokens:
    """A model's tokenizer, without padding. Not thread-safe.

    progress: grows while `encode` works, which for a large unit takes minutes.
    """

    def __init__(self, directory: str, max_tokens: int) -> None:
        """Raises ModelError when the tokenizer can't be read, ConfigError when `max_tokens` leaves no room for text."""
        backbone = find_backbone(Path(directory))
        try:
            whole, cut, direction = _load(backbone)
        except Exception as error:  # tokenizers knows only one kind of exception, and raises that itself
            raise ModelError(f"{backbone}: the tokenizer can't be used: {error}") from error
        special = whole.num_special_tokens_to_add(False)
        if max_tokens <= special:  # tokenizers would not cut at all, or leave nothing of any text
            raise ConfigError(
                f"model.max_tokens is {max_tokens}, and {special} of them are special tokens; set it higher"
            )
        self._frame = _find_frame(whole, cut, special, direction)
        cut.enable_truncation(max_tokens, direction=direction)
        self._whole, self._cut, self.max_tokens = whole, cut, max_tokens
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
        """The ids of a text that is too long, cut to the limit."""
        return list(self._cut.encode(text).ids) if self._frame is None else self._frame.cut(row, self.max_tokens)


def _find_frame(whole: Tokenizer, cut: Tokenizer, special: int, direction: str) -> _Frame | None:
    """None where a tokenizer cuts in another way, and has to do it itself, which takes it as long again as the whole text did.

    cut: is left with another limit.
    """
    limit = special + PROBED_TOKENS
    cut.enable_truncation(limit, direction=direction)
    row, inner = (whole.encode(PROBE, add_special_tokens=framed).ids for framed in (True, False))
    before = next((n for n in range(special + 1) if row[n : len(row) - special + n] == inner), None)
    if before is None or len(row) <= limit:
        return None
    frame = _Frame(before, special - before, from_left=direction == "left")
    return frame if frame.cut(row, limit) == cut.encode(PROBE).ids else None


def _chunks(texts: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    first, size = 0, 0
    for index, text in enumerate(texts):
        if index > first and (size + len(text) > CHUNK_BYTES or index - first >= CHUNK_TEXTS):
            yield first, list(texts[first:index])
            first, size = index, 0
        size += len(text)
    if texts:
        yield first, list(texts[first:])


def _load(backbone: Path) -> tuple[Tokenizer, Tokenizer, str]:
    """The tokenizer as it is, one that is to cut, and from which side.

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
    for tokenizer in (whole, cut):  # not in the JSON; True: "[SEP]" in a text is five characters, no special token
        tokenizer.encode_special_tokens = bool(settings.get("split_special_tokens", False))
    return whole, cut, direction
