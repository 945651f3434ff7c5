"""The whole sweep, case after case: every operation × every kind of fault, on both places, again and again."""

import random
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

from faults.ledger import Chunk
from faults.sweep.cases import Case, Sweep, open_sweep
from faults.sweep.places import PLACES
from support.models import find_minilm, save_tiny_bert

ZERO = ("lost", "duplicated", "mispaired", "leftovers", "tracebacks", "violations")
"""What must be 0. `violations`: cases with anything wrong, also what no other of these counts."""


def soak(first: int, seconds: float) -> Chunk:
    """Cases from number `first` on for about `seconds`. The numbers go on after the last case: then with two faults each."""
    until = time.monotonic() + seconds
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        model = save_tiny_bert(Path(folder), find_minilm())
        sweeps = {name: stack.enter_context(open_sweep(name, Path(folder) / name, model)) for name in PLACES}
        return go(sweeps, first, until)


def go(sweeps: dict[str, Sweep], first: int, until: float) -> Chunk:
    """At least one case, and more until the clock says `until`."""
    cases = numbered(sweeps)
    counts = Counter(dict.fromkeys(ZERO, 0))
    if first == 0:
        counts["all_points"] = len(cases)
    number = first
    while number == first or time.monotonic() < until:
        turn, index = divmod(number, len(cases))
        counts.update(sweeps[cases[index].place].go(cases[index], turn))
        number += 1
    return Chunk(number, counts)


def numbered(sweeps: dict[str, Sweep]) -> list[Case]:
    """Every case of every place, in an order that is the same every time."""
    cases = [case for name in sorted(sweeps) for case in sweeps[name].cases()]
    random.Random(len(cases)).shuffle(cases)
    return cases
