"""Round after round of random faults, each with an input and an output of its own, on clusters that live as long as they can."""

import random
import shutil
import tempfile
import time
from collections import Counter
from contextlib import ExitStack, nullcontext
from pathlib import Path

from faults.chaos.round import ZERO, Clusters, Round
from faults.chaos.strikes import draw
from faults.chaos.traps import PHASES
from faults.ledger import Chunk
from faults.sweep.places import Place, open_place
from support.models import find_minilm, save_tiny_bert

FILES, ROWS = 14, 5000
S3_EVERY = 5
"""Rounds for one on S3: there the server takes most of the time."""

COLLECTED, TWICE, COMPETED = 0.4, 0.3, 0.2
"""How often a round has collections beside its runs, begins with two drivers at once, or has two specs at once."""


def soak(first: int, seconds: float) -> Chunk:
    """Rounds from number `first` on for about `seconds`."""
    until = time.monotonic() + seconds
    counts = Counter(dict.fromkeys((*ZERO, "kills", "zombies", *(f"kills.{phase}" for phase in PHASES)), 0))
    number = first
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        model = save_tiny_bert(Path(folder), find_minilm())
        clusters = Clusters()
        stack.callback(clusters.close)
        places: dict[str, Place] = {}
        while number == first or time.monotonic() < until:
            name = "s3" if number % S3_EVERY == S3_EVERY - 1 else "local"
            if name not in places:
                places[name] = stack.enter_context(open_place(name, Path(folder)))
            counts.update(go(number, clusters, Path(folder), places[name], model))
            number += 1
    return Chunk(number, counts)


def go(number: int, clusters: Clusters, folder: Path, place: Place, model: str) -> Counter[str]:
    """One round: two versions, each through faults. What it does is drawn from its number."""
    rng = random.Random(f"chaos {number}")
    collected, twice, competed = (rng.random() < chance for chance in (COLLECTED, TWICE, COMPETED))
    own = folder / f"round-{number}"
    round_ = Round(clusters, own, place.root(f"out-{number}"), model, place.settings)
    try:
        with round_.watch() as watch, round_.collecting() if collected else nullcontext():
            round_.world.begin(FILES, ROWS)
            round_.publish(draw(rng, rng.randint(14, 18)), drivers=2 if twice else 1)
            if competed:
                round_.compete()
            round_.world.move(ROWS)
            round_.publish(draw(rng, rng.randint(8, 10)), "--allow-drop")
            round_.judge()
        return Counter(round_.counts + watch.counts, rounds=1)
    finally:
        shutil.rmtree(own, ignore_errors=True)
        place.remove(f"out-{number}")
