"""`make soak`: every part of the proof in turn, for hours, going on where the last sitting was stopped.

Each chunk of work runs in a process of its own and is added to docs/reliability.json as soon as it ends.
"""

import argparse
import importlib
import json
import logging
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from faults import ledger, report
from faults.chaos.strikes import PAIRS

log = logging.getLogger(__name__)

CHUNK_S = 300.0
MOST_S = 3600.0
"""What a chunk may take beyond its time: a round of chaos, or one run of the Ray share, is not cut short."""

LANE = 10**9
"""Cases of the second process of a part begin here."""

INTERRUPTED = (-signal.SIGINT, -signal.SIGTERM)
"""How a chunk ends that somebody stopped."""


@dataclass(frozen=True)
class Part:
    """One part of the proof: `faults.<name>.soak.soak(first, seconds)`."""

    name: str
    # Counts, or names of other counts, at which it is done for this version of its code.
    wanted: Mapping[str, int | str]
    lanes: int = 1  # processes at a time


PARTS = (
    Part("simulation", {"seeds": 1_000_000}, lanes=2),
    Part("sweep", {"points": "all_points"}),
    Part(
        "chaos",
        {"kills": 500, "zombies": 50, "rows": 2_000_000, "polls": 100_000}
        | {f"rounds.{kind}": 3 for kind in ("collected", "two_drivers", "two_specs", "s3")}
        | {f"kills.{phase}.{victim}": 1 for phase, victim in PAIRS},
    ),
    Part("poison", {"poisonous_rows": 200, "poisonous_rows.nan": 10, "nan_in_company_rows": 10}),
    Part("store", {"jobs": 100, "radosgw_jobs": 40, "timed_pairs": 3}),
    Part("corpus", {"bad_files": 300, "fuzzed_files": 20_000}),
    Part("ground", {"ground_cases": 300}),
    Part("security", {"security_cases": "all_security_cases", "searches.serial": 1, "searches.ray": 1}),
    Part("repeats", {"repeats": 20}),
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
    return right and not any(report.findings(part.name) for part in parts)


def is_done(part: Part) -> bool:
    """Whether the ledger holds what is wanted of a part."""
    found = ledger.counts(part.name)

    def reached(name: str, wanted: int | str) -> bool:
        return found.get(name, -1) >= (wanted if isinstance(wanted, int) else found.get(wanted, math.inf))

    return all(reached(*item) for item in part.wanted.items())


def _chunks(part: Part, seconds: float) -> Iterator[bool]:
    """Run a chunk in each lane at once, and book them; whether each was all right."""
    started, version = time.monotonic(), ledger.version_of(part.name)
    firsts = [ledger.begin(part.name, version, lane) or LANE * lane for lane in range(part.lanes)]
    children = [_start(part.name, first, seconds) for first in firsts]
    for lane, (first, child) in enumerate(zip(firsts, children, strict=True)):
        chunk = _ended(child, first, seconds)
        if chunk is None:
            log.error("%s: the chunk from %d was stopped; nothing of it is counted", part.name, first)
            yield False
            continue
        if ledger.version_of(part.name) != version:
            log.error("%s: the code has changed under the chunk from %d; nothing of it is counted", part.name, first)
            yield False
            continue
        ledger.add(part.name, version, chunk, time.monotonic() - started, lane)
        wrong = report.wrong(chunk.counts)
        level = logging.ERROR if wrong else logging.INFO
        log.log(level, "%s.%d, next %d: %s", part.name, lane, chunk.next, dict(chunk.counts))
        yield not wrong


def _ended(child: "subprocess.Popen[str]", first: int, seconds: float) -> ledger.Chunk | None:
    """What a chunk did; None when somebody stopped it. One that ended otherwise than well is a finding itself, and is done again:
    what it would have told is lost, and may have been the worst there is."""
    try:
        output = child.communicate(timeout=seconds + MOST_S)[0]
    except subprocess.TimeoutExpired:
        child.kill()
        log.error("the chunk from %d did not end: %s", first, child.communicate()[0][-2000:])
        return ledger.Chunk(first, {"chunks_failed": 1})
    if child.returncode in INTERRUPTED:
        return None
    try:
        if child.returncode == 0:
            return ledger.Chunk(**json.loads(output.splitlines()[-1]))
    except (IndexError, TypeError, ValueError):
        log.error("a chunk from %d ended without its counts: %s", first, output[-2000:])
    log.error("the chunk from %d ended with exit code %d; what it said is above", first, child.returncode)
    return ledger.Chunk(first, {"chunks_failed": 1})


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
