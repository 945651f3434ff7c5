"""A loaded model made as fast as its architecture and its device allow, or left as it is."""

import sys
from typing import Any

import torch

from pipeline.encode.attention import PACKED, attend_packed
from pipeline.encode.fused import fuse_layers
from pipeline.encode.layout import Layout, Packed, Padded
from pipeline.encode.linear import TorchLinear, make_linear, replace_linears, use_autocast
from pipeline.encode.placement import Placement

CHECK_TOKENS = 512
"""Tokens of the longest text of the comparison, where the model takes so many."""

WINDOWS = ("sliding_window", "attention_chunk_size", "local_attention")
"""Where configurations of transformers have how far a token sees."""

FOLLOWING = ("dynamic", "longrope")
"""Kinds of rotary positions, as transformers names them, whose frequencies follow the batch."""

MASK_BYTES = 2 << 30
"""For the masks of all passes that are under way."""

STREAM_IN_HALF = ("cuda",)
"""Devices on which the residual stream of layers that normalise it last is in half precision too. A GPU's time goes by what is
written and read; on a CPU float32 costs nothing there."""

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def arrange_plain(transformer: Any, placement: Placement) -> Layout:
    """As sentence-transformers runs it, products in the number format of the placement. For any architecture."""
    dtype = DTYPES[placement.dtype]
    if dtype == torch.float16:
        use_autocast(transformer.model, placement.device, dtype, _kept(transformer.model))
    elif dtype == torch.bfloat16:
        replace_linears(transformer.model, TorchLinear, dtype, _kept(transformer.model))
    return padded(transformer)


def arrange_fast(transformer: Any, placement: Placement, max_tokens: int) -> Layout:
    """Without padding where the architecture allows it, with merged and prepacked products. In place. Where `has_fast_way`.

    What comes out may be wrong for an architecture nobody has thought of, or raise anything: whoever calls this compares.
    """
    dtype = DTYPES[placement.dtype]
    layout: Layout = padded(transformer)
    if can_pack(transformer, placement, max_tokens):
        from transformers import AttentionInterface

        AttentionInterface.register(PACKED, attend_packed)
        transformer.model.set_attn_implementation(PACKED)
        transformer.model.pooler = None  # it would pool the first text of every batch, for nobody
        stream = dtype if placement.device in STREAM_IN_HALF else torch.float32
        if fuse_layers(transformer.model, dtype, stream) and hasattr(transformer.model, "embeddings"):
            transformer.model.embeddings.to(stream)
        layout = Packed(_padding_index(transformer.model))
    replace_linears(transformer.model, make_linear, dtype, _kept(transformer.model))
    return layout


def has_fast_way(transformer: Any, placement: Placement, max_tokens: int) -> bool:
    """Whether there is anything to gain: what is padded on a GPU is as fast the plain way."""
    return placement.device == "cpu" or can_pack(transformer, placement, max_tokens)


def can_pack(transformer: Any, placement: Placement, max_tokens: int) -> bool:
    """Whether texts may stand one behind the other: attention is exchangeable, no text is without a token, and a window that
    tokens are seen through is either never reached or small enough to be seen in the comparison.

    On a GPU the kernel for it computes in half precision only.
    """
    if any(CHECK_TOKENS // 2 <= window < max_tokens for window in _windows(transformer)):
        return False
    exchangeable = getattr(transformer.model, "is_backend_compatible", lambda: False)()
    never_empty = len(transformer.tokenizer("")["input_ids"]) > 0
    return exchangeable and never_empty and (placement.device == "cpu" or placement.dtype != "float32")


def changes_itself(model: torch.nn.Module) -> bool:
    """Whether a forward pass leaves something behind that the next one finds: rotary frequencies that follow the longest text
    of a batch. Two passes at once would take each other's."""
    return any(kind in str(getattr(module, "rope_type", "")) for module in model.modules() for kind in FOLLOWING)


def most_at_once(transformer: Any, max_tokens: int) -> int:
    """How many passes of a text of so many tokens may be under way at once: a window makes each a mask of 4 bytes for each square
    token, as torch adds it to scores."""
    masked = any(window < max_tokens for window in _windows(transformer))
    return max(1, MASK_BYTES // (4 * max_tokens**2)) if masked else sys.maxsize


def _windows(transformer: Any) -> list[int]:
    """How far its tokens see, where that is bounded."""
    found = (getattr(transformer.model.config, name, None) for name in WINDOWS)
    return [window for window in found if isinstance(window, int)]


def padded(transformer: Any) -> Padded:
    """The layout that sentence-transformers uses itself."""
    tokenizer = transformer.tokenizer
    return Padded(int(tokenizer.pad_token_id or 0), left=tokenizer.padding_side == "left")


def _kept(model: Any) -> frozenset[str]:
    """Names of layers that transformers keeps in float32, since they overflow in half precision."""
    return frozenset((*(model._keep_in_fp32_modules or ()), *(model._keep_in_fp32_modules_strict or ())))


def _padding_index(model: torch.nn.Module) -> int | None:
    """Of RoBERTa's family: the module that has the table of positions knows it as a number of its own."""
    for module in model.modules():
        index = getattr(module, "padding_idx", None)
        if isinstance(index, int) and isinstance(getattr(module, "position_embeddings", None), torch.nn.Embedding):
            return index
    return None
