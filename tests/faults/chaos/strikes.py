"""What is done to a run: catch a process at a place, and strike it, or another one while it is held there."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from faults.chaos.traps import PHASES, places

HOLDER = {
    "planning": "driver", "reading": "reader", "encoding": "encoder", "staging": "stager", "assembling": "assembler",
    "publishing": "driver",
}  # fmt: skip
"""Who comes by the places of a phase."""

PAIRS = tuple(
    dict.fromkeys(
        (phase, victim) for phase, own in HOLDER.items() for victim in (own, "driver", "raylet", "board", "gcs")
    )
)
"""(phase, victim): whose death can fall into which phase. Workers of one step are no victims in the phase of another: who is at
work then is in a phase of its own, and the rest have nothing to lose."""

WANTED_AT_ONCE = 3
"""Faults of a draw that are chosen because their pair wasn't struck yet: some of them end the cluster, most of them the run."""

WITH_BOARD = ("before plan_now", "after plan_now")
"""Places of planning where there is a board: not in a run's first round, which has no engine yet."""

CHANCE = {"reading": 0.2, "encoding": 0.1, "staging": 0.1}
"""That who comes by is caught: of what happens many times in a run, not always the first. Else 1."""


@dataclass(frozen=True)
class Fault:
    """What is to happen to the process that is caught at a place, the holder, or to another one meanwhile.

    victim: holder, driver, raylet, board or gcs.
    manner: kill; stop (until the run has killed it, or is over); part (the holder and all of its machine are stopped until the
    run is over without them, and go on then); overtake (a driver is stopped until another has done its work, and goes on then).
    """

    phase: str
    place: str
    victim: str = "holder"
    manner: str = "kill"
    chance: float = 1.0

    @property
    def struck(self) -> str:
        """The victim by its own name."""
        return HOLDER[self.phase] if self.victim == "holder" else self.victim


def draw(rng: random.Random, count: int, missing: Sequence[tuple[str, str]] = ()) -> list[Fault]:
    """Random faults, some of them of the pairs that are `missing` so far."""
    wanted = [_kill(rng, *pair) for pair in rng.sample(missing, min(len(missing), WANTED_AT_ONCE))]
    others = count - len(wanted)
    return wanted + [_fault(rng, phase) for phase in rng.choices(list(PHASES), (2, 2, 3, 3, 4, 3), k=others)]


def _kill(rng: random.Random, phase: str, victim: str) -> Fault:
    place = rng.choice(WITH_BOARD if (phase, victim) == ("planning", "board") else places(phase))
    return Fault(phase, place, "holder" if victim == HOLDER[phase] else victim, "kill", CHANCE.get(phase, 1.0))


def _fault(rng: random.Random, phase: str) -> Fault:
    place = rng.choice(places(phase))
    if HOLDER[phase] == "driver":
        manner = rng.choices(("kill", "overtake"), (5, 1))[0]
        victim = rng.choices(("holder", "raylet", "board", "gcs"), (12, 2, 2, 1))[0] if manner == "kill" else "holder"
        return Fault(phase, place, victim, manner)
    manner = rng.choices(("kill", "stop", "part"), (11, 1, 4))[0]
    victim = rng.choices(("holder", "driver", "raylet", "board", "gcs"), (14, 3, 2, 2, 0.4))[0]
    return Fault(phase, place, victim if manner == "kill" else "holder", manner, CHANCE.get(phase, 1.0))
