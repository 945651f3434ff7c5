"""What is done to a run: catch a process at a place, and strike it, or another one while it is held there."""

import random
from dataclasses import dataclass

from faults.chaos.traps import PHASES, places

HOLDER = {
    "planning": "driver", "reading": "reader", "encoding": "encoder", "staging": "stager", "assembling": "assembler",
    "publishing": "driver",
}  # fmt: skip
"""Who comes by the places of a phase."""

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


def draw(rng: random.Random, count: int) -> list[Fault]:
    """Random faults."""
    return [_fault(rng, rng.choices(list(PHASES), (2, 2, 3, 3, 4, 3))[0]) for _ in range(count)]


def _fault(rng: random.Random, phase: str) -> Fault:
    place = rng.choice(places(phase))
    if HOLDER[phase] == "driver":
        manner = rng.choices(("kill", "overtake"), (5, 1))[0]
        victim = rng.choices(("holder", "raylet", "board", "gcs"), (12, 2, 2, 1))[0] if manner == "kill" else "holder"
        return Fault(phase, place, victim, manner)
    manner = rng.choices(("kill", "stop", "part"), (12, 1, 2))[0]
    victim = rng.choices(("holder", "driver", "raylet", "board", "gcs"), (14, 3, 2, 2, 0.4))[0]
    return Fault(phase, place, victim if manner == "kill" else "holder", manner, CHANCE.get(phase, 1.0))
