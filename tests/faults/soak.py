"""`make soak`: every part of the proof in turn, for hours, going on where the last sitting was stopped.

Each chunk of work runs in a process of its own and is added to docs/reliability.json as soon as it ends.
"""

import argparse
import importlib
import json
import logging
import math
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from faults import ledger, report

log = logging.getLogger(__name__)

CHUNK_S = 300.0
LANE = 10**9
"""Cases of the second process of a part begin here."""


@dataclass(frozen=True)
class Part:
    """One part of the proof: `faults.<name>.soak.soak(first, seconds)`."""

    name: str
    # Counts, or names of other counts, at which it is done for this version of the protocol's code.
    wanted: Mapping[str, int | str]
    lanes: int = 1  # processes at a time


PARTS = (
    Part("simulation", {"seeds": 1_000_000}, lanes=2),
    Part("sweep", {"points": "all_points"}),
    Part("chaos", {"kills": 500, "zombies": 50, "rows": 2_000_000, "polls": 100_000}),
    Part("poison", {"poisonous_rows": 200}),
    Part("store", {"jobs": 100, "radosgw_jobs": 40, "timed_pairs": 3}),
    Part("corpus", {"bad_files": 300, "fuzzed_files": 20_000}),
    Part("ground", {"ground_cases": 300}),
    Part("security", {"security_cases": 150}),
)


def run_part(name: str, first: int, seconds: float) -> ledger.Chunk:
    """One chunk, in this process."""
    chunk: ledger.Chunk = importlib.import_module(f"faults.{name}.soak").soak(first, seconds)
    return chunk


def soak(parts: Sequence[Part], seconds: float) -> bool:
    """Take parts in turn until all have what is wanted or the time is over. False: something is wrong."""
    until = time.monotonic() + seconds
    right = True
    while (todo := [part for part in parts if not is_done(part)]) and time.monotonic() < until:
        for part in todo:
            left = until - time.monotonic()
            if left > 0:
                right &= all([*_chunks(part, min(CHUNK_S, left))])
                report.write()
    return right


def is_done(part: Part) -> bool:
    """Whether the ledger holds what is wanted of a part."""
    found = ledger.counts(part.name)

    def reached(name: str, wanted: int | str) -> bool:
        return found.get(name, -1) >= (wanted if isinstance(wanted, int) else found.get(wanted, math.inf))

    return all(reached(*item) for item in part.wanted.items())


def _chunks(part: Part, seconds: float) -> Iterator[bool]:
    """Run a chunk in each lane at once, and book them; whether each was all right."""
    started = time.monotonic()
    lanes = [f"{part.name}.{lane}" if part.lanes > 1 else part.name for lane in range(part.lanes)]
    children = [_start(part.name, ledger.begin(lane) or LANE * at, seconds) for at, lane in enumerate(lanes)]
    for lane, child in zip(lanes, children, strict=True):
        output = child.communicate()[0]
        if child.returncode:
            log.error("%s: the chunk ended with exit code %d; nothing of it is counted", lane, child.returncode)
            yield False
            continue
        chunk = ledger.Chunk(**json.loads(output.splitlines()[-1]))
        ledger.add(lane, chunk, time.monotonic() - started)
        wrong = {name: count for name, count in chunk.counts.items() if count and name in report.MUST_BE_ZERO}
        log.log(logging.ERROR if wrong else logging.INFO, "%s, next %d: %s", lane, chunk.next, dict(chunk.counts))
        yield not wrong


def _start(name: str, first: int, seconds: float) -> "subprocess.Popen[str]":
    tests = Path(__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tests), str(tests.parent)])}
    command = [sys.executable, "-m", "faults.soak", "--chunk", name, str(first), str(seconds)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hours", type=float, default=8.0)
    parser.add_argument("--only", choices=[part.name for part in PARTS])
    parser.add_argument("--chunk", nargs=3, metavar=("PART", "FIRST", "SECONDS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    if options.chunk:
        name, first, seconds = options.chunk
        chunk = run_part(name, int(first), float(seconds))
        sys.stdout.write(f"\n{json.dumps({'next': chunk.next, 'counts': dict(chunk.counts)})}\n")
        return 0
    wanted = [part for part in PARTS if options.only in (None, part.name)]
    return 0 if soak(wanted, options.hours * 3600) else 1


if __name__ == "__main__":
    sys.exit(main())
