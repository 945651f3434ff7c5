"""Contender: embedpipe's engine as several replicas that share the cores."""

import multiprocessing
from typing import Any

import engine
import numpy as np
from serve import Encode, serve

_encode: Encode


def load(settings: dict[str, Any], texts: list[str]) -> tuple[Encode, dict[str, Any]]:
    """`replicas`: how many; the rest as for one."""
    count = settings["replicas"]
    own = {**settings, "threads": max(1, settings["threads"] // count)}
    pool = multiprocessing.get_context("spawn").Pool(count, _load, (own, texts))

    def encode(texts: list[str]) -> Any:
        shares = pool.map(_work, [texts[first::count] for first in range(count)], chunksize=1)
        vectors = np.empty((len(texts), shares[0].shape[1]), np.float32)
        for first, share in enumerate(shares):
            vectors[first::count] = share
        return vectors

    encode(texts[: 32 * count])
    return encode, {"threads": own["threads"]}


def _load(settings: dict[str, Any], texts: list[str]) -> None:
    global _encode  # noqa: PLW0603 - a process of the pool holds one replica
    _encode = engine.load(settings, texts)[0]


def _work(texts: list[str]) -> Any:
    return _encode(texts)


if __name__ == "__main__":
    serve(load)
