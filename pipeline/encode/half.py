"""Half precision where it pays and nowhere else: matrix products. Norms, softmax and the residual stream stay in float32."""

import functools
from typing import Any

import torch


class _Bfloat16Linear(torch.nn.Module):
    """A linear layer that multiplies in bfloat16 (accumulating in float32) and gives float32.

    The residual stream, norms, softmax and pooling around it never see bfloat16: with everything in bfloat16
    all-MiniLM-L6-v2 reaches a cosine of 0.99990 to 0.99993, so 0.99997.
    """

    def __init__(self, linear: torch.nn.Linear) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(linear.weight.to(torch.bfloat16), requires_grad=False)
        self.bias = linear.bias

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        product = torch.nn.functional.linear(values.to(torch.bfloat16), self.weight).float()
        return product if self.bias is None else product + self.bias


def use_bfloat16_products(model: torch.nn.Module) -> None:
    """Replace every linear layer of the transformer in place."""
    for name, child in model.named_children():
        if isinstance(child, torch.nn.Linear):
            setattr(model, name, _Bfloat16Linear(child))
        else:
            use_bfloat16_products(child)


def use_float16_products(model: torch.nn.Module, device: str) -> None:
    """Linear layers and attention of the transformer in float16, by torch's autocast, in place.

    Autocast keeps norms and softmax in float32, and a sum of a float32 stream and a float16 product is float32. The
    layers' weights are cast here once: autocast would do it anew in every pass.
    """
    for module in model.modules():
        if isinstance(module, torch.nn.Linear):
            module.to(torch.float16)
    forward = model.forward

    @functools.wraps(forward)
    def in_float16(*arguments: Any, **named: Any) -> Any:
        with torch.autocast(device, torch.float16):
            return forward(*arguments, **named)

    model.forward = in_float16
