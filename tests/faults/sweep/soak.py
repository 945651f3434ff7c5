"""The whole sweep, case after case: every operation × every kind of fault, on both places, again and again."""

import hashlib
import random
import re
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from faults.ledger import Chunk
from faults.sweep.cases import Case, Sweep, open_sweep
from faults.sweep.places import PLACES
from support.models import find_minilm, save_tiny_bert

ZERO = ("lost", "duplicated", "mispaired", "leftovers", "tracebacks", "unfired", "violations")
"""What must be 0. `violations`: cases with anything wrong, also what no other of these counts. `unfired`: cases of the first turn
whose fault did not happen to the operation they name; they are no points."""


def soak(first: int, seconds: float) -> Chunk:
    """Cases from number `first` on for about `seconds`. The numbers go on after the last case: then with two faults each.

    `points` are different ones for as long as their list is the same: `cases.<digest>` counts those made of the list with this
    digest, so that a second name of that kind tells of two lists.
    """
    until = time.monotonic() + seconds
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        model = save_tiny_bert(Path(folder), find_minilm())
        sweeps = {name: stack.enter_context(open_sweep(name, Path(folder) / name, model)) for name in PLACES}
        return go(sweeps, first, until)


def go(sweeps: dict[str, Sweep], first: int, until: float) -> Chunk:
    """At least one case, and more until the clock says `until`."""
    cases = numbered(sweeps)
    points = f"cases.{digest(cases)}"
    counts = Counter(dict.fromkeys(ZERO, 0))
    if first == 0:
        counts["all_points"] = len(cases)
    number = first
    while number == first or time.monotonic() < until:
        turn, index = divmod(number, len(cases))
        counts.update(sweeps[cases[index].place].go(cases[index], turn))
        number += 1
    counts[points] = counts["points"]
    return Chunk(number, counts)


def numbered(sweeps: dict[str, Sweep]) -> list[Case]:
    """Every case of every place, in an order that is the same every time."""
    cases = [case for name in sorted(sweeps) for case in sweeps[name].cases()]
    random.Random("both places").shuffle(cases)
    return cases


def digest(cases: Iterable[Case]) -> str:
    """What stands for a list of cases: 12 hexadecimal characters. Of a key it has the kind of thing, not which one: hashes in
    keys speak of the libraries that wrote it, and other libraries make no other list."""
    lines = (f"{replace(case, key=_HASH.sub('*', case.key))}\n" for case in cases)
    return hashlib.sha256("".join(lines).encode()).hexdigest()[:12]


_HASH = re.compile(r"\b[0-9a-f]{32,}\b")
