"""Not a contender: how fast this machine multiplies at a model's shapes. One `go` measures every shape once more."""

import time
from typing import Any

from serve import Encode, serve

ROWS = 4096
AT_LEAST_S = 0.2


def load(settings: dict[str, Any], _texts: list[str]) -> tuple[Encode, dict[str, Any]]:
    """`shapes`: (out, in, how often in a layer). The vectors are the rates in float32 and bfloat16 (0: emulated), in FLOP/s."""
    import torch

    from pipeline.encode.linear import PrepackedLinear, TorchLinear, prepacking_works
    from pipeline.encode.placement import native_bfloat16

    torch.set_num_threads(settings["threads"])
    torch.set_grad_enabled(False)

    def rate(dtype: torch.dtype) -> float:
        """Of one layer's products: the best that is known for each shape."""
        flop = seconds = 0.0
        for rows_out, rows_in, times in settings["shapes"]:
            weight, values = torch.randn(rows_out, rows_in), torch.randn(ROWS, rows_in).to(dtype)
            kinds = [TorchLinear, *([PrepackedLinear] if prepacking_works(dtype) else [])]
            best = min(_seconds(kind(weight, None, dtype), values) for kind in kinds)
            flop += times * 2.0 * ROWS * rows_out * rows_in
            seconds += times * best
        return flop / seconds

    def measure(_texts: list[str]) -> list[float]:
        return [rate(torch.float32), rate(torch.bfloat16) if native_bfloat16() else 0.0]

    return measure, {}


def _seconds(layer: Any, values: Any) -> float:
    """The median of single products."""
    layer(values)
    taken: list[float] = []
    while sum(taken) < AT_LEAST_S or len(taken) < 5:
        started = time.perf_counter()
        layer(values)
        taken.append(time.perf_counter() - started)
    return sorted(taken)[len(taken) // 2]


if __name__ == "__main__":
    serve(load)
