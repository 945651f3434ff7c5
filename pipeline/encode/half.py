"""bfloat16 where it pays and nowhere else: matrix products of linear layers; the rest of the model stays in float32."""

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
