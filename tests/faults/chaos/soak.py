"""Round after round of random faults, each with an input and an output of its own, on clusters that live as long as they can."""

import logging
import random
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from pathlib import Path

from faults import ledger, oracle
from faults.chaos.round import ZERO, Clusters, Round
from faults.chaos.strikes import PAIRS, draw
from faults.chaos.traps import PHASES
from faults.ledger import Chunk
from faults.sweep.places import Place, open_place
from support.models import find_minilm, save_tiny_bert

log = logging.getLogger(__name__)

FILES, ROWS = 14, 6000
S3_EVERY = 5
"""Rounds for one on S3: there the server takes most of the time."""

COLLECTED, TWICE, COMPETED = 0.4, 0.3, 0.2
"""How often a round has collections beside its runs, begins with two drivers at once, or has two specs at once."""

KINDS = ("collected", "two_drivers", "two_specs", "s3")
"""Of rounds, as they are counted: `rounds.<kind>`. A round may be of several."""


def soak(first: int, seconds: float) -> Chunk:
    """Rounds from number `first` on for about `seconds`."""
    until = time.monotonic() + seconds
    counted = ("kills", "zombies", *(f"kills.{phase}" for phase in PHASES), *(f"rounds.{kind}" for kind in KINDS))
    counts = Counter(dict.fromkeys((*ZERO, *counted), 0))
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
            missing = [
                pair for pair in PAIRS if not counts[struck(*pair)] + ledger.counts("chaos").get(struck(*pair), 0)
            ]
            counts.update(go(number, clusters, Path(folder), places[name], model, missing))
            number += 1
    return Chunk(number, counts)


def struck(phase: str, victim: str) -> str:
    """The count of a pair."""
    return f"kills.{phase}.{victim}"


def go(
    number: int, clusters: Clusters, folder: Path, place: Place, model: str, missing: Sequence[tuple[str, str]]
) -> Counter[str]:
    """One round: two versions, each through faults. What it does is drawn from its number, and from the pairs of phase and
    victim that nobody was struck in so far."""
    rng = random.Random(f"chaos {number}")
    collected, twice, competed = (rng.random() < chance for chance in (COLLECTED, TWICE, COMPETED))
    own = folder / f"round-{number}"
    round_ = Round(clusters, own, place.root(f"out-{number}"), model, place.settings)
    try:
        with round_.watch() as watch:
            with round_.collecting() if collected else nullcontext():
                round_.world.begin(FILES, ROWS)
                round_.publish(draw(rng, rng.randint(22, 28), missing), drivers=2 if twice else 1)
                if competed:
                    round_.compete()
                    round_.publish([], "--replace")
                round_.world.move(ROWS)
                missing = [pair for pair in missing if not round_.counts[struck(*pair)]]
                round_.publish(draw(rng, rng.randint(14, 18), missing), "--allow-drop")
            round_.judge()  # a collection beside it would be seen to leave what it is about to take away again
        of_kind = dict(zip(KINDS, (collected, twice, competed, round_.output.startswith("s3://")), strict=True))
        counts = Counter(
            round_.counts + watch.counts, rounds=1, **{f"rounds.{kind}": int(is_so) for kind, is_so in of_kind.items()}
        )
        wrong = {name: counts[name] for name in ZERO if counts[name]}
        if wrong:
            log.error("chaos round %d: %s; its input and output are kept in %s", number, wrong, _keep(round_, number))
        return counts
    finally:
        shutil.rmtree(own, ignore_errors=True)
        place.remove(f"out-{number}")


def _keep(round_: Round, number: int) -> Path:
    """A copy of what a round leaves, as it can't be played again: who was where when is up to the machine."""
    kept = Path(tempfile.mkdtemp(prefix=f"chaos-round-{number}-"))
    shutil.copytree(round_.world.folder, kept / "in")
    output = oracle.reader(round_.output)
    for key in output.keys():  # noqa: SIM118
        (kept / "out" / key).parent.mkdir(parents=True, exist_ok=True)
        (kept / "out" / key).write_bytes(output.read(key) or b"")
    return kept
