"""How far vectors are from sentence-transformers' own in float32."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Parity:
    """Over all texts of a round."""

    min_cosine: float
    max_relative_l2: float


def measure_parity(found: npt.NDArray[np.float32], expected: npt.NDArray[np.float32]) -> Parity:
    """Hold vectors [n, dimensions] against the reference's. A peer that gives them another length has a relative L2 for it."""
    own, due = found.astype(np.float64), expected.astype(np.float64)
    length = np.linalg.norm(due, axis=1)
    cosine = np.einsum("nd,nd->n", own, due) / (np.linalg.norm(own, axis=1) * length)
    return Parity(float(cosine.min()), float((np.linalg.norm(own - due, axis=1) / length).max()))
