"""Giving back what a replica held, so that another process on the same device finds room."""

import contextlib
import gc
import sys


def free_memory() -> None:
    """Collect what nobody refers to any more, and hand back what torch keeps for later. Where torch isn't loaded there is
    nothing to hand back."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        with contextlib.suppress(RuntimeError):  # after an error in a kernel the device gives no other answer any more
            torch.cuda.empty_cache()
