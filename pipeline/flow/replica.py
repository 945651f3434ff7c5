"""A model replica in this process, as a job wants it, and what it is asked: vectors that are finite."""

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pipeline.flow.context import JobContext

if TYPE_CHECKING:  # torch is loaded where there is a replica, not by readers, stagers and the driver
    from pipeline.encode.encoder import Encoder
    from pipeline.quality.gate import GateResult


def load_replica(context: JobContext, threads: int | None) -> "tuple[Encoder, GateResult]":
    """A model replica on this process's device that has passed the parity gate. Raises ParityError, ModelError."""
    from pipeline.quality.gate import load_gated

    model = context.model
    return load_gated(
        model.stage(),
        model.settings,
        texts=model.gate_texts,
        precision=model.precision,
        device=model.device,
        threads=threads,
        at_most=model.at_most,
    )


def encode_finite(
    encoder: "Encoder", token_ids: npt.NDArray[np.int32], offsets: npt.NDArray[np.int64]
) -> npt.NDArray[np.float32]:
    """`encoder.encode`, and texts whose vector has NaN or infinity once more, each alone.

    In half precision a long neighbour in the batch can push a short text's attention out of range.
    """
    vectors = encoder.encode(token_ids, offsets)
    for index in not_finite(vectors):
        start, stop = offsets[index], offsets[index + 1]
        vectors[index] = encoder.encode(token_ids[start:stop], np.array([0, stop - start]))[0]
    return vectors


def not_finite(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """Indices of vectors that hold NaN or infinity."""
    return np.flatnonzero(~np.isfinite(vectors).all(axis=1))
