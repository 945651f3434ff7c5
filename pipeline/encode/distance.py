"""How far apart two ways of computing the same vectors are."""

import numpy as np
import numpy.typing as npt


def furthest(found: npt.NDArray[np.float32], expected: npt.NDArray[np.float32]) -> float:
    """The largest distance of two rows of [n, dimensions], relative to the expected one's length. NaN and what isn't zero
    where zero is due are infinitely far; rows are left out where even the expected ones aren't finite."""
    some = np.isfinite(expected).all(axis=1)  # a text without tokens may have no vector in either
    lengths = np.linalg.norm(expected[some], axis=1)
    distances = np.linalg.norm(found[some] - expected[some], axis=1)
    apart = np.divide(distances, lengths, out=np.where(distances == 0, 0.0, np.inf), where=lengths > 0)
    return float(np.nan_to_num(apart, nan=np.inf).max(initial=0.0))
