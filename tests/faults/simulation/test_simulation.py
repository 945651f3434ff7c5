"""The program's own commit protocol under a seeded scheduler: every interleaving, fault and death that a seed can think of.

`PYTHONPATH=tests:. python -m faults.simulation SEED` shows the history behind a number in a failure.
"""

import json
import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from faults.simulation import binding
from faults.simulation.misfortune import KINDS, Faults
from faults.simulation.soak import soak
from support.records import done, input_file, spec, whole

from pipeline.commit.records import UnitRecord

ROOT = Path(__file__).parents[3]
HISTORIES = 20_000
BATCH = """
import json, logging, sys
from faults.simulation.soak import live
logging.basicConfig(stream=sys.stderr)
print(json.dumps(live(range({}, {}, 2))))
"""
TRACES = """
import hashlib
from faults.simulation.story import simulate
digest = hashlib.sha256()
for seed in range(40):
    simulate(seed, lambda line: digest.update(line.encode()))
print(digest.hexdigest())
"""


def python(code: str, **settings: str) -> subprocess.Popen[str]:
    """A process of its own for `code`."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'tests'}{os.pathsep}{ROOT}", **settings}
    return subprocess.Popen(
        [sys.executable, "-c", code],
        env=environment,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: os.nice(
            19
        ),  # it takes what others leave while they wait for their clusters, and ends on two free cores
    )


@pytest.mark.timeout(1200)
def test_no_history_breaks_the_protocol_and_every_fault_happens_to_every_operation() -> None:
    """What makes the second half matter: a fault that never happens proves nothing."""
    halves = [python(BATCH.format(first, HISTORIES)) for first in range(2)]
    counts: Counter[str] = Counter()
    faults: Counter[str] = Counter()
    for out, err in [half.communicate() for half in halves]:
        assert err == "", err[:3000]
        for total, part in zip((counts, faults), json.loads(out), strict=True):
            total.update(part)
    assert counts["violations"] == 0
    assert counts["seeds"] == HISTORIES
    assert counts["snapshots"] > HISTORIES
    assert counts["reads"] > HISTORIES // 4
    never = [
        f"{operation}: {kind}"
        for operation, kinds in KINDS.items()
        for kind in kinds
        if faults[f"{operation}: {kind}"] < 5
    ]
    assert never == []
    happened = (
        "stopped",
        "taken away",
        *(f"unreadable.{unit} unit, {how}" for unit in ("first", "later") for how in ("alone", "in a group")),
    )
    assert [name for name in happened if counts[name] < HISTORIES // 100] == []


def test_a_seed_is_the_same_history_in_any_process() -> None:
    """Else no failure could be looked at twice. Sets of names have another order in each process."""
    digests = {python(TRACES, PYTHONHASHSEED=seed).communicate()[0] for seed in ("1", "2")}
    assert len(digests) == 1
    assert digests != {""}


def test_a_fault_counts_for_what_it_came_to() -> None:
    faults = Faults(random.Random(0), rate=0.1, kill_share=0.1, stale=0.1, arrival=0.1, sore="")
    faults.happened("list", "in pages", effective=False)
    faults.happened("list", "stale", effective=True)
    faults.happened("put_new", "repeated", effective=False)
    faults.happened("put_new", "killed after", effective=False)
    faults.happened("delete", "in part", effective=False)
    assert faults.counts == {("list", "stale"): 1, ("put_new", "killed before"): 1, ("delete", "error"): 1}


def test_what_is_made_fast_gives_the_programs_own_bytes() -> None:
    record = done(spec(), whole(input_file("a.jsonl")), generation=3)
    assert binding.plain_json(record) == record.to_json()
    with binding.replaced(binding.fast_records()):
        assert UnitRecord.from_json(record.to_json()) == record


def test_the_soak_says_where_to_go_on() -> None:
    chunk = soak(7, 0.2)
    assert chunk.next == 7 + chunk.counts["seeds"]
    assert chunk.counts["violations"] == 0
