"""Where a model runs and in which number format, with the reason."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.errors import ConfigError

Device = Literal["auto", "cpu", "cuda"]
Dtype = Literal["float32", "bfloat16", "float16"]
Precision = Literal["gated", "exact"]


@dataclass(frozen=True, slots=True)
class Way:
    """How a replica computes."""

    dtype: Dtype
    fast: bool  # another way than sentence-transformers does


@dataclass(frozen=True, slots=True)
class Placement:
    """The choice."""

    device: str  # "cpu" or "cuda"
    dtype: Dtype  # of the transformer's matrix products; everything else is float32 on a CPU
    reason: str


def choose_placement(precision: Precision, device: Device) -> Placement:
    """`exact`: float32 anywhere. `gated`: float16 on a GPU, bfloat16 on a CPU that multiplies it natively, else float32.

    float16 rather than bfloat16 on GPUs: it keeps 100.0% of the task scores in sentence-transformers' own measurements,
    bfloat16 99.9%. Raises ConfigError when a GPU is asked for and there is none.
    """
    import torch

    cuda = torch.cuda.is_available()
    if device == "cuda" and not cuda:
        raise ConfigError(
            "execution.device is cuda, but torch sees no GPU here; install a CUDA build, or set it to auto"
        )
    where = "cuda" if cuda and device != "cpu" else "cpu"
    if precision == "exact":
        return Placement(where, "float32", "model.precision is exact")
    if where == "cuda":
        return Placement(where, "float16", "a GPU is there")
    if native_bfloat16():
        return Placement(where, "bfloat16", "this CPU multiplies bfloat16 natively")
    return Placement(where, "float32", "this CPU has no native bfloat16, which would be slower than float32 here")


def native_bfloat16() -> bool:
    """Whether the CPU has bfloat16 instructions and torch uses them. Emulated, it is 40 to 500 times slower."""
    import torch

    try:
        flags = set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split())
    except OSError:
        return False
    return bool({"avx512_bf16", "amx_bf16", "bf16"} & flags) and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
