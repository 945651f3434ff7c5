"""Layers compiled by torch for a GPU: norms, sums, activations and casts between two products become one kernel.

Compiling takes up to a minute or two, so it is for jobs that last; which those are shows when they have lasted a while. What
has worked so far stays unless the compiled layers are faster and give the same vectors.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch

from pipeline.encode.distance import furthest
from pipeline.encode.fused import FusedLayer

AFTER_S = {"cuda": 300.0}
"""Seconds of encoding after which it is tried, by device: at worst a job then takes a fifth longer than without. On a CPU the
products are oneDNN's either way, and there is little between them."""

WORTH = 1.03
"""Less is within what two measurements differ by."""

BOUND = 3e-3
"""How far vectors may move, relative to their length: what half precision rounds away in other places. The parity gate, which
the replica has passed with its layers as they were, lets five times as much pass."""


def try_compiled(
    model: torch.nn.Module, encode: Callable[[], npt.NDArray[np.float32]], rate: Callable[[], float | None]
) -> tuple[bool, str]:
    """Compile a model's layers in place, or leave it as it was, also when anything is raised. Whether they are compiled now, and
    how that came, for a log.

    encode: vectors of a few texts; rate: tokens per second, None where memory doesn't suffice.
    """
    layers = [module for module in model.modules() if isinstance(module, FusedLayer)]
    if not layers:
        return False, "there are no layers to compile"
    try:
        before, expected = rate(), encode()
        for layer in layers:  # of one shape: what is compiled for the first serves all
            layer.finish = torch.compile(layer.finish, dynamic=True)  # type: ignore[method-assign]
        distance, after = furthest(encode(), expected), rate()
    except Exception as error:  # a compiler may be missing, or fail in ways of its own
        outcome = f"layers can't be compiled ({type(error).__name__})"
    else:
        outcome = f"compiled layers: {before or 0:,.0f} → {after or 0:,.0f} tokens/s, vectors apart by {distance:.1g}"
        if distance <= BOUND and before and after and after >= WORTH * before:
            return True, f"{outcome}; they stay"
    for layer in layers:
        vars(layer).pop("finish", None)
    return False, f"{outcome}; they are left as they were"
