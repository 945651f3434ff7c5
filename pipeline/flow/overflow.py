"""Texts whose vector half precision can't hold: once more in float32, which the model was made in."""

import contextlib
import logging
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from pipeline.errors import InputError
from pipeline.flow.context import JobContext
from pipeline.flow.isolate import Isolated, NoRoom, isolate

log = logging.getLogger(__name__)


def encode_in_float32(
    context: JobContext,
    threads: int | None,
    token_ids: npt.NDArray[np.int32],
    offsets: npt.NDArray[np.int64],
    texts: npt.NDArray[np.int64],
    *,
    while_waiting: Callable[[], None],
    make_room: Callable[[], None],
) -> npt.NDArray[np.float32] | None:
    """Vectors [len(texts), dimensions] of some of the texts given as flat token ids [T] and offsets [n + 1], NaN where float32
    has none either; None where this machine has no room for it.

    In a process of its own that is gone afterwards: nobody has reckoned with the memory of a second, larger replica, and this
    one is not to die of it. Where there is no room for both, or a text ends that process, this one goes: see `make_room`. It
    takes as long as a model takes to load; where many texts overflow, precision `exact` is better.

    Raises EncodeError for trouble that says nothing about the texts and may be over by the next attempt, InputError as `isolate`.
    """
    lengths = offsets[texts + 1] - offsets[texts]
    ids = np.concatenate([token_ids[offsets[text] : offsets[text + 1]] for text in texts])
    own = np.concatenate([[0], np.cumsum(lengths)])
    exact = replace(context, model=replace(context.model, precision="exact"))
    found: Isolated | None = None
    with contextlib.suppress(NoRoom, InputError):  # the latter: more of them end that process than texts would
        found = isolate(exact, threads, ids, own, while_waiting)
    if found is None or found.poison:
        make_room()
        try:
            found = isolate(exact, threads, ids, own, while_waiting)
        except NoRoom as error:
            log.warning("%d texts that overflow half precision: no room for float32: %s", len(texts), error.message)
            return None
    found.vectors[list(found.poison)] = np.nan
    return found.vectors
