"""A layer of BERT's family with fewer, larger steps: one product for query, key and value, activation inside the product."""

from collections.abc import Sequence
from typing import Any

import torch

from pipeline.encode.attention import attend
from pipeline.encode.linear import Activation, make_linear

ACTIVATIONS: dict[str, Activation] = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
}
"""transformers' names of those that are applied inside a product."""


class FusedLayer(torch.nn.Module):
    """For packed texts. Products and attention in `dtype`, the residual stream in `stream`.

    In these layers the stream is what a norm has given: half precision rounds it, but it can't overflow there.
    """

    def __init__(self, layer: Any, activation: Activation, dtype: torch.dtype, stream: torch.dtype) -> None:
        super().__init__()
        attention, mixed = layer.attention.self, layer.attention.output
        parts = (attention.query, attention.key, attention.value)
        self._heads, self._head_size = attention.num_attention_heads, attention.attention_head_size
        self._stream, self._scale = stream, attention.scaling
        self._project = make_linear(
            torch.cat([part.weight for part in parts]), torch.cat([part.bias for part in parts]), dtype
        )
        self._mix = make_linear(mixed.dense.weight, mixed.dense.bias, dtype)
        self._widen = make_linear(layer.intermediate.dense.weight, layer.intermediate.dense.bias, dtype, activation)
        self._narrow = make_linear(layer.output.dense.weight, layer.output.dense.bias, dtype)
        self._norm_mixed, self._norm_out = mixed.LayerNorm.to(stream), layer.output.LayerNorm.to(stream)

    def forward(
        self,
        hidden_states: torch.Tensor,
        *_masks: object,
        runs: Sequence[tuple[int, int]],
        cu_seq_lens_q: torch.Tensor,
        **_other: object,
    ) -> torch.Tensor:
        """[1, tokens, size] → the same in the stream's format."""
        stream = hidden_states[0].to(self._stream)
        projected = self._project(stream).view(len(stream), 3, self._heads, self._head_size)
        mixed = attend(*projected.unbind(1), runs=runs, starts=cu_seq_lens_q, scale=self._scale)
        return self.finish(stream, mixed.flatten(1))[None]

    def finish(self, stream: torch.Tensor, mixed: torch.Tensor) -> torch.Tensor:
        """What follows attention: the stream [tokens, size] and what the tokens have seen, [tokens, size] → the stream."""
        stream = self._norm_mixed(self._mix(mixed) + stream)
        result: torch.Tensor = self._norm_out(self._narrow(self._widen(stream)) + stream)
        return result


def fuse_layers(model: torch.nn.Module, dtype: torch.dtype, stream: torch.dtype) -> int:
    """Put a fused layer in place of each that is built like BERT's, in place; how many there were."""
    layers = getattr(getattr(model, "encoder", None), "layer", None)
    activation = ACTIVATIONS.get(str(getattr(getattr(model, "config", None), "hidden_act", None)))
    if not isinstance(layers, torch.nn.ModuleList) or activation is None:
        return 0
    if not all(_is_like_bert(layer) for layer in layers):
        return 0
    for index, layer in enumerate(layers):
        layers[index] = FusedLayer(layer, activation, dtype, stream)
    return len(layers)


def _is_like_bert(layer: Any) -> bool:
    """Judged by its parts: a dozen architectures are copies of this layer under other names."""
    parts = {
        "attention.self": {"query", "key", "value", "dropout"},
        "attention.output": {"dense", "LayerNorm", "dropout"},
        "intermediate": {"dense", "intermediate_act_fn"},
        "output": {"dense", "LayerNorm", "dropout"},
    }
    found = dict(layer.named_modules())
    return (
        {name for name, _ in layer.named_children()} == {"attention", "intermediate", "output"}
        and all(name in found and {n for n, _ in found[name].named_children()} == part for name, part in parts.items())
        and all(
            hasattr(layer.attention.self, name) for name in ("scaling", "num_attention_heads", "attention_head_size")
        )
        and not getattr(layer, "is_decoder", False)
    )
