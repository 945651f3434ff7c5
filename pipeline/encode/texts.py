"""A unit's texts in the order they are encoded in: the longest first, one behind the other.

Texts of like length come together, so that batches need almost no padding; and if memory is short, it is short at once.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch


@dataclass(frozen=True, slots=True)
class Texts:
    """Batches of them are ranges: texts `first` to `stop` are tokens `starts[first]` to `starts[stop]`."""

    ids: torch.Tensor  # int64 [tokens], on the device
    starts: npt.NDArray[np.int64]  # [texts + 1]
    lengths: npt.NDArray[np.int64]  # [texts], in tokens, falling
    order: npt.NDArray[np.int64]  # [texts]: where each of them stood before

    def __len__(self) -> int:
        return len(self.lengths)


def longest_first(token_ids: npt.NDArray[np.int32], offsets: npt.NDArray[np.int64], device: str) -> Texts:
    """Sort texts given as flat token ids [tokens] and offsets [texts + 1], and bring them to the device in one piece."""
    given = np.diff(offsets)
    order = np.argsort(-given, kind="stable")
    lengths = given[order]
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    source = np.repeat(offsets[:-1][order] - starts[:-1], lengths) + np.arange(starts[-1])
    ids = torch.from_numpy(token_ids[source])
    if device == "cuda":
        ids = ids.pin_memory().to(device, non_blocking=True)
    return Texts(ids.long(), starts, lengths, order)


def in_given_order(vectors: torch.Tensor, order: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """Vectors [texts, dimensions] of sorted texts, each at its text's old place, in the host's memory. The only wait for
    the device that a unit needs."""
    if vectors.device.type == "cpu":
        restored = np.empty(vectors.shape, np.float32)
        restored[order] = vectors.numpy()
        return restored
    places = torch.from_numpy(order).pin_memory().to(vectors.device, non_blocking=True)
    there = torch.empty_like(vectors).index_copy_(0, places, vectors)
    here = torch.empty(there.shape, dtype=there.dtype, pin_memory=True)
    here.copy_(there, non_blocking=True)
    torch.cuda.current_stream().synchronize()
    return here.numpy()
