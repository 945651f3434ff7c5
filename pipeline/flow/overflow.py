"""Texts whose vector half precision can't hold: once more in float32, which the model was made in."""

import logging
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from pipeline.errors import EmbedpipeError
from pipeline.flow.context import JobContext
from pipeline.flow.isolate import isolate

log = logging.getLogger(__name__)


def encode_in_float32(
    context: JobContext,
    threads: int | None,
    token_ids: npt.NDArray[np.int32],
    offsets: npt.NDArray[np.int64],
    texts: npt.NDArray[np.int64],
    while_waiting: Callable[[], None],
) -> npt.NDArray[np.float32] | None:
    """Vectors [len(texts), dimensions] of some of the texts given as flat token ids [T] and offsets [n + 1], NaN where float32
    has none either; None where it can't be tried on this machine.

    In a process of its own that is gone afterwards: nobody has reckoned with the memory of a second, larger replica, and this
    one is not to die of it. It takes as long as a model takes to load; where many texts overflow, precision `exact` is better.
    """
    lengths = offsets[texts + 1] - offsets[texts]
    ids = np.concatenate([token_ids[offsets[text] : offsets[text + 1]] for text in texts])
    exact = replace(context, model=replace(context.model, precision="exact"))
    try:
        found = isolate(exact, threads, ids, np.concatenate([[0], np.cumsum(lengths)]), while_waiting)
    except EmbedpipeError as error:
        log.warning("%d texts that overflow half precision can't be encoded in float32 here: %s", len(texts), error)
        return None
    found.vectors[list(found.poison)] = np.nan
    return found.vectors
