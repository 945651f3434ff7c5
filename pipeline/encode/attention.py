"""Attention over packed texts: tokens of many texts in one row, each text seeing itself alone, none of it padding.

It is handed to transformers by name, through its interface for attention functions; an architecture that supports the
interface then computes nothing for padding anywhere.
"""

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention

PACKED = "embedpipe_packed"
"""Name of the function among transformers' attention implementations."""

HARMLESS = frozenset(
    {"dropout", "position_ids", "seq_idx", "cache", "past_key_values", "cache_position", "use_cache", "return_dict"}
)
"""What transformers hands to attention functions besides, and what changes nothing for a whole text."""

EQUAL_TOKENS = 16_384
"""On a GPU that many tokens of texts that are all of one length are worth a plan of their own by cuDNN, which takes 40 ms to
make and is kept: it attends half as fast again. So it is with long documents, which are all cut at the same place."""

GROUP_TOKENS = 512
"""On a CPU texts are attended to in groups of about this many tokens: what belongs together then stays in the cache."""


def attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    *,
    runs: Sequence[tuple[int, int]],
    starts: torch.Tensor,
    scale: float | None = None,
    causal: bool = False,
    window: int | None = None,
) -> torch.Tensor:
    """Softmax attention within each text: [tokens, heads, head size] from query, and key and value that may have fewer heads.

    runs: (texts, tokens of each) one behind the other, on the host; starts: the same as int32 [texts + 1] on the device.
    window: tokens at this distance or farther aren't seen. Computed in float32 on a CPU, in half precision on a GPU.
    """
    if query.is_cuda:
        return _attend_on_gpu(query, key, value, runs, starts, scale, causal, window)
    out = torch.empty_like(query, memory_format=torch.contiguous_format)
    first = 0
    for count, length in _groups(runs):
        tokens = slice(first, first + count * length)
        first = tokens.stop
        q, k, v = (
            part[tokens].float().view(count, length, *part.shape[1:]).transpose(1, 2) for part in (query, key, value)
        )
        seen = None if window is None or length <= window else _near(length, window, causal=causal)
        found = scaled_dot_product_attention(
            q, k, v, seen, scale=scale, is_causal=causal and seen is None, enable_gqa=q.shape[1] != k.shape[1]
        )
        out[tokens].view(count, length, *out.shape[1:]).copy_(found.transpose(1, 2))
    return out


def attend_packed(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    _mask: torch.Tensor | None,
    scaling: float | None = None,
    is_causal: bool | None = None,
    sliding_window: int | None = None,
    *,
    runs: Sequence[tuple[int, int]],
    cu_seq_lens_q: torch.Tensor,
    **other: Any,
) -> tuple[torch.Tensor, None]:
    """`attend` as transformers calls it: [1, heads, tokens, head size] → [1, tokens, heads, head size].

    Raises NotImplementedError for what it can't do and a model may ask for: sinks, capped scores, biases.
    """
    asked = [name for name in other.keys() - HARMLESS if other[name] is not None and other[name] is not False]
    if asked:
        raise NotImplementedError(f"packed attention with {', '.join(sorted(asked))}")
    causal = is_causal if is_causal is not None else bool(getattr(module, "is_causal", False))
    q, k, v = (part[0].transpose(0, 1) for part in (query, key, value))
    found = attend(
        q, k, v, runs=runs, starts=cu_seq_lens_q, scale=scaling, causal=causal, window=sliding_window or None
    )
    return found.unsqueeze(0), None


def _groups(runs: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Runs of at most `GROUP_TOKENS` tokens, or of one text."""
    for count, length in runs:
        most = max(1, GROUP_TOKENS // length)
        for first in range(0, count, most):
            yield min(most, count - first), length


def _near(length: int, window: int, *, causal: bool) -> torch.Tensor:
    """Which token [length] sees which [length]: the beginning of what holds for longer texts."""
    return _band(1 << (length - 1).bit_length(), window, causal)[:length, :length]


@functools.lru_cache(maxsize=16)
def _band(size: int, window: int, causal: bool) -> torch.Tensor:
    """Sizes are powers of two, so that what is kept is less than three bytes for each square token of the longest text."""
    seen = torch.ones(size, size, dtype=torch.bool).tril_(0 if causal else window - 1)
    return seen.triu_(1 - window)


def _attend_on_gpu(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    runs: Sequence[tuple[int, int]],
    starts: torch.Tensor,
    scale: float | None,
    causal: bool,
    window: int | None,
) -> torch.Tensor:
    from torch.nn.attention.varlen import varlen_attn

    half = query.dtype if query.dtype in (torch.float16, torch.bfloat16) else torch.float16
    shared = query.shape[1] // key.shape[1]  # how many heads of the query see the same key
    if shared > 1:  # torch's kernel knows of that from 2.12 on only
        key, value = (part.repeat_interleave(shared, dim=1) for part in (key, value))
    q, k, v = (part.to(half) for part in (query, key, value))
    if len(runs) == 1 and window is None and len(query) >= EQUAL_TOKENS:
        return _attend_to_equal(q, k, v, runs[0], scale, causal).to(query.dtype)
    longest = max(length for _, length in runs)
    reach = (-1, -1) if window is None else (window - 1, window - 1)
    found = varlen_attn(
        q, k, v, starts, starts, longest, longest,
        scale=scale, window_size=(reach[0], 0) if causal else reach,
    )  # fmt: skip
    assert isinstance(found, torch.Tensor)
    return found.to(query.dtype)


def _attend_to_equal(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    run: tuple[int, int],
    scale: float | None,
    causal: bool,
) -> torch.Tensor:
    from torch.nn.attention import SDPBackend, sdpa_kernel

    q, k, v = (part.view(*run, *part.shape[1:]).transpose(1, 2) for part in (query, key, value))
    with sdpa_kernel([SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION], set_priority=True):
        found = scaled_dot_product_attention(q, k, v, scale=scale, is_causal=causal)
    return found.transpose(1, 2).reshape(query.shape)
