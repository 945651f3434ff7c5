"""How texts lie in a batch: packed one behind the other, or padded to the longest."""

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from pipeline.encode.texts import Texts


class Layout(Protocol):
    """Where batches end and what the model is given of them."""

    def cut(self, texts: Texts, first: int, budget: int) -> int:
        """The end of a batch that begins at text `first`: as many as fit into a budget of tokens, at least one."""
        ...

    def size(self, texts: Texts, first: int, stop: int) -> int:
        """Tokens the model computes for a batch, padding included."""
        ...

    def features(self, texts: Texts, first: int, stop: int) -> dict[str, Any]:
        """Arguments of sentence-transformers' modules."""
        ...


class Padded:
    """A matrix [texts, width] and a mask. Works with every architecture."""

    def __init__(self, pad_id: int, *, left: bool) -> None:
        """left: texts stand at the right of their row."""
        self._pad_id, self._left = pad_id, left

    def cut(self, texts: Texts, first: int, budget: int) -> int:
        """See `Layout.cut`."""
        return min(len(texts), first + max(1, budget // _width(texts, first)))

    def size(self, texts: Texts, first: int, stop: int) -> int:
        """See `Layout.size`."""
        return (stop - first) * _width(texts, first)

    def features(self, texts: Texts, first: int, stop: int) -> dict[str, Any]:
        """See `Layout.features`."""
        width, device = _width(texts, first), texts.ids.device
        column, lengths = torch.arange(width, device=device), texts.lengths_there[first:stop, None]
        mask = column >= width - lengths if self._left else column < lengths
        ids = torch.full(mask.shape, self._pad_id, dtype=texts.ids.dtype, device=device)
        ids.masked_scatter_(mask, texts.ids[texts.starts[first] : texts.starts[stop]])
        return {"input_ids": ids.long(), "attention_mask": mask.long()}


class Packed:
    """One row without padding, for architectures that take `attention.PACKED`."""

    def __init__(self, padding_index: int | None) -> None:
        """padding_index: of models whose positions are counted from behind it, past padding tokens (RoBERTa's family)."""
        self._padding_index = padding_index

    def cut(self, texts: Texts, first: int, budget: int) -> int:
        """See `Layout.cut`."""
        fit = int(np.searchsorted(texts.starts, texts.starts[first] + budget, side="right")) - 1
        return min(len(texts), max(fit, first + 1))

    def size(self, texts: Texts, first: int, stop: int) -> int:
        """See `Layout.size`."""
        return int(texts.starts[stop] - texts.starts[first])

    def features(self, texts: Texts, first: int, stop: int) -> dict[str, Any]:
        """See `Layout.features`. Names as flash attention has them in transformers. Raises ValueError for an empty text."""
        if texts.lengths[stop - 1] == 0:
            raise ValueError("a text without tokens can't be packed")
        tokens = slice(int(texts.starts[first]), int(texts.starts[stop]))
        ids, text = texts.ids[tokens], texts.text[tokens] - first
        starts = texts.starts_there[first : stop + 1] - tokens.start
        return {
            "input_ids": ids.long()[None],
            "position_ids": self._positions(ids, starts, text)[None],
            "cu_seq_lens_q": starts.int(),
            "seq_idx": text[None],
            "runs": _runs(texts.lengths[first:stop]),
        }

    def _positions(self, ids: torch.Tensor, starts: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        if self._padding_index is None:
            return torch.arange(len(ids), device=ids.device) - starts[text]
        counted = (ids != self._padding_index).long()
        before = counted.cumsum(0) - counted
        return (before - before[starts[text]] + 1) * counted + self._padding_index


def _width(texts: Texts, first: int) -> int:
    return max(1, int(texts.lengths[first]))


def _runs(lengths: npt.NDArray[np.int64]) -> tuple[tuple[int, int], ...]:
    """(texts, tokens of each): how often each length comes in a row."""
    ends = np.flatnonzero(np.diff(lengths, append=-1)) + 1
    counts = np.diff(ends, prepend=0)
    return tuple(zip(counts.tolist(), lengths[ends - 1].tolist(), strict=True))
