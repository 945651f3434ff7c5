"""Poison at random: kinds, places and sizes of units by seed, through the serial engine and, more rarely, through Ray."""

import logging
import math
import random
import tempfile
import time
from collections import Counter
from pathlib import Path

from faults import oracle
from faults.ledger import Chunk
from faults.poison.bench import KINDS, attempts, run, write
from support.jobs import make_config
from support.models import find_minilm, save_tiny_bert

from pipeline.flow.maintenance import list_quarantine

log = logging.getLogger(__name__)

RAY_SHARE = 0.2
MAX_RUNS = 6
"""Two for a death each, one that tries texts apart; three more for hangs in other units."""


def soak(first: int, seconds: float) -> Chunk:
    """Each seed is a job with up to four poisonous rows."""
    end = time.monotonic() + seconds
    counts = Counter(
        dict.fromkeys(
            ("poisonous_rows", "not_isolated", "unended", "lost", "duplicated", "mispaired", "over_attempts"), 0
        )
    )
    seed = first
    with tempfile.TemporaryDirectory(prefix="poison-") as folder:
        model = save_tiny_bert(Path(folder), find_minilm())
        while time.monotonic() < end:
            _work(Path(folder, str(seed)), model, random.Random(seed), counts)
            seed += 1
    return Chunk(seed, dict(counts))


def _work(folder: Path, model: str, chance: random.Random, counts: Counter[str]) -> None:
    folder.mkdir()
    rows = chance.choice([1, 2, 3, 64, 65, 200, 500])
    places = chance.sample(range(rows), min(rows, chance.randint(1, 4)))
    poison = {place: chance.choice(list(KINDS)) for place in places}
    texts = write(folder / "in", poison, rows=rows)
    engine = chance.choices(("serial", "ray"), (1 - RAY_SHARE, RAY_SHARE))[0]
    config = make_config(
        folder / "in", str(folder / "out"), model, output__max_rejected_share=1, execution__unit_timeout_s=5,
        execution__engine=engine, execution__max_attempts=10,
    )  # fmt: skip
    counts[f"{engine}_jobs"] += 1
    words = {word: what for word, (what, _) in KINDS.items()}
    codes = []
    while (not codes or codes[-1] != 0) and len(codes) < MAX_RUNS:
        codes.append(run(config, folder / "log", words).returncode)
    found = {row["id"]: row for row in list_quarantine(str(folder / "out")).to_pylist()}
    expected = {f"x-{place}": KINDS[word][1] for place, word in poison.items()}
    apart = [name for name, reason in expected.items() if name in found and reason in found[name]["reason"]]
    counts["poisonous_rows"] += len(expected)
    counts["not_isolated"] += len(expected) - len(apart) + len(found.keys() - expected.keys())
    counts["unended"] += codes[-1] != 0
    counts["over_attempts"] += sum(
        times > (2 * math.log2(rows) + 2) * list(poison.values()).count(word)
        for word, times in attempts(folder / "log").items()
    )
    verdict = oracle.check(str(folder / "out"), {n: t for n, t in texts.items() if n not in expected}, model)
    counts["lost"] += len(verdict.lost)
    counts["duplicated"] += len(verdict.doubled)
    counts["mispaired"] += len(verdict.mispaired) + len(verdict.foreign)
    if codes[-1] or len(apart) < len(expected) or not verdict.right:
        log.error("%s rows, poison %s: exit codes %s, set aside %s, %s", rows, poison, codes, found, verdict)
