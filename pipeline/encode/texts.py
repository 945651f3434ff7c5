"""A unit's texts in the order they are encoded in: the longest first, one behind the other.

Texts of like length come together, so that batches need almost no padding; and if memory is short, it is short at once.
What a batch needs is sliced from what lies on the device already: there is one way there and one back for a whole unit, and
for packed batches nothing in between waits for the device.
"""

import functools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch


@dataclass(frozen=True, slots=True)
class Texts:
    """Batches of them are ranges: texts `first` to `stop` are tokens `starts[first]` to `starts[stop]`."""

    starts: npt.NDArray[np.int64]  # [texts + 1]
    lengths: npt.NDArray[np.int64]  # [texts], in tokens, falling
    order: npt.NDArray[np.int64]  # [texts]: where each of them stood before
    # On the device:
    ids: torch.Tensor  # int32 [tokens]
    text: torch.Tensor  # int64 [tokens]: the text each token is of
    starts_there: torch.Tensor  # int64 [texts + 1]
    lengths_there: torch.Tensor  # int64 [texts]

    def __len__(self) -> int:
        return len(self.lengths)


def longest_first(token_ids: npt.NDArray[np.int32], offsets: npt.NDArray[np.int64], device: str) -> Texts:
    """Sort texts given as flat token ids [tokens] and offsets [texts + 1], and bring them to the device."""
    given = np.diff(offsets)
    order = np.argsort(-given, kind="stable")
    lengths = given[order]
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    # Tokens are put in order there: here it would take longer than a GPU takes to encode a tenth of them.
    given_ids, given_starts, starts_there, lengths_there = _send(
        device, token_ids, offsets[:-1][order], starts, lengths
    )
    numbers = torch.arange(len(lengths), device=given_ids.device)
    text = torch.repeat_interleave(numbers, lengths_there, output_size=int(starts[-1]))
    place = torch.arange(len(text), device=given_ids.device)
    ids = given_ids[(given_starts - starts_there[:-1])[text] + place]
    return Texts(starts, lengths, order, ids, text, starts_there, lengths_there)


def in_given_order(vectors: torch.Tensor, order: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """Vectors [texts, dimensions] of sorted texts in the host's memory, each at its text's old place."""
    if not vectors.is_cuda:
        return torch.empty_like(vectors).index_copy_(0, torch.from_numpy(order), vectors).numpy()
    [places] = _send("cuda", order)
    there = torch.empty_like(vectors).index_copy_(0, places, vectors)
    here = torch.empty(there.shape, dtype=there.dtype, pin_memory=True)
    here.copy_(there, non_blocking=True)
    torch.cuda.current_stream().synchronize()
    return here.numpy()


def _send(device: str, *arrays: npt.NDArray[np.generic]) -> list[torch.Tensor]:
    """Arrays on the device. To a GPU they go from pinned memory on a stream of their own, beside what is computed there."""
    # What comes from another process can't be written to, which torch doesn't take.
    tensors = [torch.from_numpy(array if array.flags.writeable else array.copy()) for array in arrays]
    if device == "cpu":
        return tensors
    now, aside = torch.cuda.current_stream(), _copies()
    with torch.cuda.stream(aside):
        there = [tensor.pin_memory().to(device, non_blocking=True) for tensor in tensors]
    now.wait_stream(aside)
    for tensor in there:
        tensor.record_stream(now)  # its memory isn't another's before what is queued here has read it
    return there


@functools.cache
def _copies() -> torch.cuda.Stream:
    """One for the process: memory that was used on a stream is kept for that stream."""
    return torch.cuda.Stream()  # type: ignore[no-untyped-call]
