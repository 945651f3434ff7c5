"""What a store may do wrong while a job runs: mixes of rules, by name, and random ones by seed."""

import random

from faults.store.rules import OBJECT, Rule

BODY = {"method": "GET", "path": OBJECT}
MIXES: dict[str, tuple[Rule, ...]] = {
    "busy": (
        Rule("503 SlowDown", share=0.3),
        Rule("500 InternalError", share=0.1),
        Rule("400 RequestTimeout", share=0.05),
    ),
    "connections": (Rule("reset", share=0.05), Rule("reset body", share=0.1), Rule("truncated", share=0.1, **BODY)),
    "lost answers": (
        Rule("lost", method="PUT", share=0.2),
        Rule("409 ConditionalRequestConflict", method="PUT", header="if-none-match", share=0.2),
        Rule("lost", share=0.05),
    ),
    "late requests": (Rule("late", method="PUT|POST", share=0.15, seconds=0.05),),
    "flipped bits": (Rule("flipped", share=0.2, **BODY),),
    "slow": (Rule("stalled", times=1, after=5, seconds=60, **BODY), Rule("drip", share=0.05, seconds=0.2, **BODY)),
}
"""`OBJECT` where a fault is one of the data: a bit flipped in a listing's XML is beyond what any client can notice."""

KINDS: tuple[tuple[Rule, float], ...] = (  # each with the highest share a random mix gives it
    (Rule("503 SlowDown"), 0.3),
    (Rule("500 InternalError"), 0.1),
    (Rule("reset"), 0.05),
    (Rule("reset body"), 0.1),
    (Rule("truncated", method="GET"), 0.1),
    (Rule("lost", method="PUT"), 0.2),
    (Rule("lost", method="POST"), 0.3),
    (Rule("late", method="PUT", seconds=0.1), 0.1),
    (Rule("late", method="POST", seconds=0.1), 0.1),
    (Rule("409 ConditionalRequestConflict", method="PUT", header="if-none-match"), 0.2),
    (Rule("412 PreconditionFailed", method="PUT", header="if-none-match"), 0.05),
    (Rule("flipped", **BODY), 0.2),
    (Rule("stalled", times=2, seconds=60, **BODY), 0.05),
    (Rule("drip", seconds=0.3, **BODY), 0.05),
    (Rule("403 ExpiredToken", times=1), 0.01),
    (Rule("403 AccessDenied", method="PUT|POST", times=1), 0.01),
)


def random_mix(chance: random.Random) -> list[Rule]:
    """One to five kinds of fault, each with a share of its own."""
    chosen = chance.sample(KINDS, chance.randint(1, 5))
    return [Rule(**{**vars(rule), "share": chance.uniform(0.2, 1.0) * most}) for rule, most in chosen]
