"""Not a contender: how fast this machine multiplies at a model's shapes. One `go` measures every shape once more."""

import time
from collections.abc import Callable
from typing import Any

from serve import Encode, serve

ROWS = {"cpu": 4096, "cuda": 65_536}
AT_LEAST_S = 0.2


def load(settings: dict[str, Any], _texts: list[str]) -> tuple[Encode, dict[str, Any]]:
    """`shapes`: (out, in, how often in a layer). The vectors are the rates in each of the `formats`, in FLOP/s."""
    import torch

    from pipeline.encode.linear import PrepackedLinear, TorchLinear, prepacking_works

    torch.set_num_threads(settings["threads"])
    torch.set_grad_enabled(False)
    device = settings["device"]

    def rate(dtype: torch.dtype) -> float:
        """Of one layer's products: the best that is known for each shape."""
        flop = seconds = 0.0
        for rows_out, rows_in, times in settings["shapes"]:
            weight = torch.randn(rows_out, rows_in, device=device)
            values = torch.randn(ROWS[device], rows_in, device=device).to(dtype)
            kinds = [TorchLinear, *([PrepackedLinear] if device == "cpu" and prepacking_works(dtype) else [])]
            best = min(_seconds(kind(weight, None, dtype), values) for kind in kinds)
            flop += times * 2.0 * len(values) * rows_out * rows_in
            seconds += times * best
        return flop / seconds

    def measure(_texts: list[str]) -> list[float]:
        return [rate(getattr(torch, name)) for name in settings["formats"]]

    return measure, {}


def _seconds(layer: Any, values: Any) -> float:
    """The median of single products."""
    import torch

    wait: Callable[[], None] = torch.cuda.synchronize if values.is_cuda else lambda: None
    layer(values)
    taken: list[float] = []
    while sum(taken) < AT_LEAST_S or len(taken) < 5:
        wait()
        started = time.perf_counter()
        layer(values)
        wait()
        taken.append(time.perf_counter() - started)
    return sorted(taken)[len(taken) // 2]


if __name__ == "__main__":
    serve(load)
