"""How a contender is talked to: it loads once, then encodes whenever it is told to. Needs nothing but numpy.

    python PEER.py SETTINGS.json

answers one JSON line once it is ready, one for each line `go` (with the seconds it took), and one for `save FILE`, after
which the last vectors lie there. The settings: texts (file with a JSON list), model (directory), max_tokens, threads, and
what the peer wants besides.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

Encode = Callable[[list[str]], Any]
"""Texts → vectors [n, dimensions], in the order given."""


def serve(load: "Callable[[dict[str, Any], list[str]], tuple[Encode, dict[str, Any]]]") -> None:
    """Be a contender. `load` gives what encodes, and what there is to tell of it."""
    settings = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    texts = json.loads(Path(settings["texts"]).read_text(encoding="utf-8"))
    with os.fdopen(os.dup(1), "w") as answer:
        os.dup2(2, 1)  # libraries print, native ones too
        encode, told = load(settings, texts)
        _say(answer, told)
        vectors: Any = None
        for line in sys.stdin:
            command, _, file = line.strip().partition(" ")
            if command == "go":
                started = time.perf_counter()
                vectors = encode(texts)
                _say(answer, {"seconds": time.perf_counter() - started})
            else:
                np.save(file, np.asarray(vectors, np.float32))
                _say(answer, {})


def _say(answer: Any, told: "dict[str, Any]") -> None:
    answer.write(json.dumps(told) + "\n")
    answer.flush()


def fastest(candidates: "dict[Any, Encode]", texts: list[str]) -> Any:
    """The key of the candidate that is quickest on all of the texts: on a few of them large batches hold more padding than
    they would in the race. Each is tried once, the best three once more."""

    def seconds(key: Any) -> float:
        started = time.perf_counter()
        candidates[key](texts)
        return time.perf_counter() - started

    for encode in candidates.values():
        encode(texts[:32])
    once = {key: seconds(key) for key in candidates}
    best = sorted(once, key=once.__getitem__)[:3]
    return min(best, key=lambda key: min(once[key], seconds(key)))


def versions(*packages: str) -> "dict[str, str]":
    """Of the packages that make the difference."""
    return {name: metadata.version(name) for name in packages}
