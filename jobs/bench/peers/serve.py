"""How a contender is talked to: it loads once, then encodes whenever it is told to. Needs nothing but numpy.

    python PEER.py SETTINGS.json

answers one JSON line once it is ready, one for each line `go` (with the seconds it took), and one for `save FILE`, after
which the last vectors lie there. The settings: texts (file with a JSON list), model (directory), max_tokens, threads, and
what the peer wants besides.
"""

import contextlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Encode = Callable[[list[str]], Any]
"""Texts → vectors [n, dimensions], in the order given."""


def serve(load: "Callable[[dict[str, Any], list[str]], tuple[Encode, dict[str, Any]]]") -> None:
    """Be a contender. `load` gives what encodes, and what there is to tell of it."""
    settings = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    texts = json.loads(Path(settings["texts"]).read_text(encoding="utf-8"))
    answer = sys.stdout
    vectors: Any = None
    with contextlib.redirect_stdout(sys.stderr):  # libraries print
        encode, told = load(settings, texts)
        _say(answer, told)
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


def fastest(candidates: "dict[Any, Encode]", texts: list[str], sample: int = 128) -> Any:
    """The key of the candidate that is quickest on some of the texts, after a warm-up."""
    some = texts[:: max(1, len(texts) // sample)][:sample]
    seconds = {}
    for key, encode in candidates.items():
        encode(some[:32])
        started = time.perf_counter()
        encode(some)
        seconds[key] = time.perf_counter() - started
    return min(seconds, key=seconds.__getitem__)
