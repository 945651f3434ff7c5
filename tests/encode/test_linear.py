"""Linear layers: each kind gives torch's own product, and a machine without the fast kind is told."""

import pytest
import torch

from pipeline.encode import linear
from pipeline.encode.linear import (
    FUNCTIONS,
    Activation,
    CublasLinear,
    PrepackedLinear,
    TorchLinear,
    make_linear,
    prepacking_works,
    replace_linears,
    use_autocast,
)

ON_GPU = (pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"))


@pytest.mark.parametrize("activation", FUNCTIONS)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", [PrepackedLinear, TorchLinear])
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-5), (torch.bfloat16, 0.05)])
def test_every_kind_gives_torchs_own_product(
    kind: type[torch.nn.Module], dtype: torch.dtype, bound: float, bias: bool, activation: Activation
) -> None:
    own = torch.nn.Linear(24, 40, bias=bias)
    values = torch.randn(7, 24)
    found = kind(own.weight.detach(), own.bias.detach() if bias else None, dtype, activation)(values)
    assert found.dtype == dtype
    assert torch.allclose(found.float(), FUNCTIONS[activation](own(values)), atol=bound)


@pytest.mark.parametrize("activation", ["gelu", "gelu_tanh"])
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=ON_GPU)])
def test_gelu_as_the_product_is_written_is_gelu_within_what_half_precision_rounds(
    device: str, activation: Activation
) -> None:
    own = torch.nn.Linear(24, 4000)
    values = 4 * torch.randn(7, 24)
    layer = CublasLinear(own.weight.detach(), own.bias.detach(), torch.float16, activation).to(device)
    found = layer(values.to(device))
    assert found.dtype == torch.float16
    expected = FUNCTIONS[activation](own(values))
    assert ((found.cpu().float() - expected).abs() <= 5e-3 + 2e-3 * expected.abs()).all()


@pytest.mark.parametrize("rows", [1, 5, 4096])
def test_prepacked_weights_serve_any_number_of_rows(rows: int) -> None:
    own = torch.nn.Linear(16, 8)
    values = torch.randn(rows, 16)
    found = PrepackedLinear(own.weight.detach(), own.bias.detach(), torch.float32)(values)
    assert torch.allclose(found, own(values), atol=1e-5)


@pytest.mark.parametrize("what", ["absent", "wrong", "refused"])
def test_entry_points_that_are_gone_or_wrong_are_not_used(monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """They are private to torch: any release may take them away or change what they mean."""

    def scripted(*given: object) -> torch.Tensor:
        if what == "refused":
            raise RuntimeError("mkldnn_linear: unsupported")
        return torch.zeros(5, 48)

    prepacking_works.cache_clear()
    assert prepacking_works(torch.float32)
    prepacking_works.cache_clear()
    fake = type(
        "mkldnn", (), {} if what == "absent" else {"_reorder_linear_weight": scripted, "_linear_pointwise": scripted}
    )
    monkeypatch.setattr(torch.ops, "mkldnn", fake)
    try:
        assert not prepacking_works(torch.float32)
        assert isinstance(make_linear(torch.randn(4, 4), None, torch.float32), TorchLinear)
    finally:
        prepacking_works.cache_clear()


def test_linear_layers_are_replaced_at_any_depth_and_their_results_are_float32() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Sequential(torch.nn.Linear(8, 4, bias=False)))
    values = torch.randn(3, 8)
    expected = model(values)
    replace_linears(model, TorchLinear, torch.bfloat16)
    found = model(values)
    assert found.dtype == torch.float32
    assert not any(isinstance(module, torch.nn.Linear) for module in model.modules())
    assert torch.allclose(found, expected, atol=0.05)
    assert not torch.equal(found, expected)
    assert model[0].weight.dtype == torch.bfloat16


def test_layers_that_only_descend_from_linear_are_left() -> None:
    """Whoever subclasses it does something else: adapters, for one."""
    model = torch.nn.Sequential(torch.nn.modules.linear.NonDynamicallyQuantizableLinear(8, 8))
    replace_linears(model, make_linear, torch.float32)
    assert type(model[0]) is torch.nn.modules.linear.NonDynamicallyQuantizableLinear


def test_gelu_is_the_one_that_is_asked_for() -> None:
    values = torch.linspace(-3, 3, 64)[:, None]
    one = torch.ones(1, 1)
    exact, tanh = (PrepackedLinear(one, None, torch.float32, name)(values) for name in ("gelu", "gelu_tanh"))
    assert 1e-5 < (exact - tanh).abs().max() < 1e-2
    assert linear.FUNCTIONS["gelu_tanh"](values).allclose(tanh, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_layers_that_overflow_in_half_precision_stay_in_float32_under_autocast(dtype: torch.dtype) -> None:
    """T5's `wo`: autocast would multiply it in half precision whatever its weights are in."""

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.wi, self.wo = torch.nn.Linear(4, 4), torch.nn.Linear(4, 4)

        def forward(self, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            inner = self.wi(values)
            return inner, self.wo(inner)

    model = Model()
    use_autocast(model, "cpu", dtype, {"wo"})
    inner, result = model(torch.full((1, 4), 1e4))
    assert (model.wi.weight.dtype, model.wo.weight.dtype) == (dtype, torch.float32)
    assert (inner.dtype, result.dtype) == (dtype, torch.float32)
    assert torch.equal(result, torch.nn.functional.linear(inner.float(), model.wo.weight, model.wo.bias))
