"""Bad files and fuzzed ones for as long as there is time: the corpus once, then seeds."""

import logging
import tempfile
import time
from collections import Counter
from pathlib import Path

from faults.corpus.cases import CASES
from faults.corpus.child import Child, Outcome
from faults.corpus.job import fits, problems
from faults.ledger import Chunk
from support.models import find_minilm, save_tiny_bert

log = logging.getLogger(__name__)

NEVER = ("wrong", "crashes", "over_memory", "over_time")


def soak(first: int, seconds: float) -> Chunk:
    """Cases by number: those of the corpus, all of them once more as one job, then a seed each."""
    end = time.monotonic() + seconds
    names, counts, number = list(CASES), Counter(dict.fromkeys(NEVER, 0)), first
    with tempfile.TemporaryDirectory(prefix="corpus-") as folder:
        corpus, fuzz = (Child(f"faults.corpus.{name}", _folder(folder, name)) for name in ("judge", "fuzz"))
        try:
            while time.monotonic() < end:
                if number < len(names):
                    _count(counts, names[number], corpus.ask(names[number]), "bad_files")
                elif number == len(names):
                    _count_job(counts, _folder(folder, "job"))
                else:
                    seed = str(number - len(names) - 1)
                    _count(counts, f"seed {seed}", fuzz.ask(seed), "fuzzed_files")
                number += 1
        finally:
            corpus.close()
            fuzz.close()
    return Chunk(number, dict(counts))


def _folder(below: str, name: str) -> Path:
    folder = Path(below) / name
    folder.mkdir()
    return folder


def _count(counts: Counter[str], name: str, outcome: Outcome, what: str) -> None:
    counts[what] += 1
    if what == "fuzzed_files":
        counts[f"fuzzed.{outcome.kind or 'lost'}"] += 1
    counts["read"] += outcome.what == "read"
    counts["refused"] += outcome.what == "refused"
    counts["wrong"] += outcome.what == "wrong"
    counts["crashes"] += outcome.what == "crashed"
    counts["over_memory"] += outcome.over_memory
    counts["over_time"] += outcome.over_time
    if outcome.bad:
        log.error("%s: %s", name, outcome)


def _count_job(counts: Counter[str], folder: Path) -> None:
    """The corpus as one job with the scripted encoder."""
    cases = [case for case in CASES.values() if fits(case)]
    found = problems(cases, folder, save_tiny_bert(folder / "model", find_minilm()))
    counts["files_in_a_job"] += len(cases)
    counts["wrong"] += len(found)
    for problem in found:
        log.error("the corpus as one job: %s", problem)
