"""Linear layers that multiply in another number format, or faster, than torch does on its own."""

import functools
from collections.abc import Callable, Set
from typing import Any, Literal

import torch
from torch.nn import functional as F  # noqa: N812 - torch's own name for it

Activation = Literal["none", "gelu", "gelu_tanh", "relu"]
FUNCTIONS: dict[Activation, Callable[[torch.Tensor], torch.Tensor]] = {
    "none": lambda values: values,
    "gelu": F.gelu,
    "gelu_tanh": functools.partial(F.gelu, approximate="tanh"),
    "relu": F.relu,
}


class TorchLinear(torch.nn.Module):
    """activation(values · weight + bias) in a number format, by torch."""

    def __init__(
        self, weight: torch.Tensor, bias: torch.Tensor | None, dtype: torch.dtype, activation: Activation = "none"
    ) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(weight.to(dtype), requires_grad=False)
        self.bias = None if bias is None else torch.nn.Parameter(bias.to(dtype), requires_grad=False)
        self._activate = FUNCTIONS[activation]

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """[…, in] of any format → […, out] in the layer's."""
        return self._activate(F.linear(values.to(self.weight.dtype), self.weight, self.bias))


class CublasLinear(TorchLinear):
    """The same on a GPU in half precision, GELU applied as the product is written: a pass less over the widest matrix there
    is, which takes half as long as the product itself.

    cuBLAS has GELU's tanh form only, up to 5e-4 from the form with erf; float16 rounds a 1 by as much.
    """

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """[tokens, in] → [tokens, out]."""
        assert self.bias is not None
        product: torch.Tensor = torch._addmm_activation(
            self.bias, values.to(self.weight.dtype), self.weight.t(), use_gelu=True
        )
        return product


class PrepackedLinear(torch.nn.Module):
    """The same by oneDNN, which is handed the weight once in the order it likes, and applies the activation as it writes.

    In float32 that is up to twice as fast as torch's own product on CPUs other than Intel's, with the same result but for
    the order of sums. What torch calls here is private to it, so `prepacking_works` has the last word.
    """

    def __init__(
        self, weight: torch.Tensor, bias: torch.Tensor | None, dtype: torch.dtype, activation: Activation = "none"
    ) -> None:
        super().__init__()
        self.weight = torch.empty(0, dtype=dtype)  # for whoever looks at its format
        self._dtype = dtype
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight.detach().to(dtype), TYPICAL_ROWS)
        self._bias = None if bias is None else bias.detach().float()
        self._activation = {"gelu_tanh": "gelu"}.get(activation, activation)
        self._algorithm = {"gelu": "none", "gelu_tanh": "tanh"}.get(activation, "")

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """See `TorchLinear.forward`."""
        product: torch.Tensor = torch.ops.mkldnn._linear_pointwise(
            values.to(self._dtype), self._weight, self._bias, self._activation, [], self._algorithm
        )
        return product


TYPICAL_ROWS = 4096
"""oneDNN orders weights for products with about so many rows; others work too."""


@functools.cache
def prepacking_works(dtype: torch.dtype) -> bool:
    """Whether oneDNN's private entry points are there in this torch on this CPU, and give what torch gives."""
    generator = torch.Generator().manual_seed(0)
    weight, bias, values = (torch.randn(*shape, generator=generator) for shape in ((48, 32), (48,), (5, 32)))
    bound = 1e-5 if dtype == torch.float32 else 0.05
    try:
        for activation in FUNCTIONS:
            found = PrepackedLinear(weight, bias, dtype, activation)(values)
            expected = TorchLinear(weight, bias, torch.float32, activation)(values)
            if found.dtype != dtype or not torch.allclose(found.float(), expected, rtol=bound, atol=bound * 10):
                return False
        PrepackedLinear(weight, None, dtype)(values)
    except (AttributeError, NotImplementedError, RuntimeError, TypeError):
        return False
    return True


def make_linear(
    weight: torch.Tensor, bias: torch.Tensor | None, dtype: torch.dtype, activation: Activation = "none"
) -> torch.nn.Module:
    """The fastest layer there is for where the weight lies."""
    if weight.device.type == "cpu":
        kind = PrepackedLinear if prepacking_works(dtype) else TorchLinear
        return kind(weight, bias, dtype, activation)
    gelu = activation.startswith("gelu") and bias is not None and dtype != torch.float32
    return (CublasLinear if gelu else TorchLinear)(weight, bias, dtype, activation)


class Float32Out(torch.nn.Module):
    """A layer whose result goes on in float32: residual streams, norms and softmax around it never see another format."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self._layer = layer

    @property
    def weight(self) -> torch.Tensor:
        """Some architectures look at it to see what format a layer wants."""
        weight: torch.Tensor = self._layer.weight
        return weight

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """[…, in] → […, out], float32."""
        result: torch.Tensor = self._layer(values)
        return result.float()


def replace_linears(
    model: torch.nn.Module,
    make: Callable[[torch.Tensor, torch.Tensor | None, torch.dtype], torch.nn.Module],
    dtype: torch.dtype,
    keep: Set[str] = frozenset(),
) -> None:
    """Put another layer in place of each `torch.nn.Linear`, at any depth, in place. Results go on in float32.

    keep: names of layers that are left as they are.
    """
    for name, child in model.named_children():
        if type(child) is torch.nn.Linear and name not in keep:
            setattr(model, name, Float32Out(make(child.weight, child.bias, dtype)))
        else:
            replace_linears(child, make, dtype, keep)


def use_autocast(model: torch.nn.Module, device: str, dtype: torch.dtype, keep: Set[str] = frozenset()) -> None:
    """Linear layers and attention in a number format, by torch's autocast, in place. For attention of any kind.

    Autocast keeps norms and softmax in float32, and a sum of a float32 stream and a half product is float32. The layers'
    weights are cast here once: autocast would do it anew in every pass. keep: names of layers that stay in float32.
    """
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear):
            if name.rpartition(".")[2] in keep:
                module.forward = _in_float32(module.forward, device)  # type: ignore[assignment]
            else:
                module.to(dtype)
    forward = model.forward

    @functools.wraps(forward)
    def in_half(*arguments: object, **named: object) -> object:
        with torch.autocast(device, dtype):
            return forward(*arguments, **named)

    model.forward = in_half


def _in_float32(forward: Callable[[torch.Tensor], torch.Tensor], device: str) -> Callable[[torch.Tensor], torch.Tensor]:
    @functools.wraps(forward)
    def apart(values: torch.Tensor) -> torch.Tensor:
        with torch.autocast(device, enabled=False):
            return forward(values.float())

    return apart
