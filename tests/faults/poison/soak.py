"""Poison at random: kinds, places and sizes of units by seed, through the serial engine and, more rarely, through Ray."""

import logging
import math
import random
import signal
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from faults import oracle
from faults.encoder import EXIT
from faults.ledger import Chunk
from faults.poison.bench import DEADLY, KINDS, SCRIPT, attempts, run, write
from support.jobs import make_config
from support.models import find_minilm, save_tiny_bert

log = logging.getLogger(__name__)

RAY_SHARE = 0.2
ZERO = ("not_isolated", "unended", "wrong_exits", "lost", "duplicated", "mispaired", "unreadable", "over_attempts")

MAY_END = {"ray": (0, 4), "serial": (0, EXIT, 4, -signal.SIGKILL, -signal.SIGSEGV)}
"""Exit codes by engine. On Ray the run itself never dies; the serial one ends as the poison does."""

ASKED_ONCE_MORE = ("kill", "hang")
"""As the process may have been killed or stopped for another's sake. That is a third time where the text is all there is to its
unit: with two a healthy one is set aside whose first process went with its machine."""

MAX_RUNS = 6
"""Two for a death each, one that tries texts apart; three more for hangs in other units."""


def soak(first: int, seconds: float) -> Chunk:
    """Each seed is a job with up to four poisonous rows. Those whose vector is NaN in company only are counted on their own, as
    they must keep it."""
    end = time.monotonic() + seconds
    counts = Counter(dict.fromkeys(("poisonous_rows", "nan_in_company_rows", *ZERO), 0))
    seed = first
    with tempfile.TemporaryDirectory(prefix="poison-") as folder:
        model = save_tiny_bert(Path(folder), find_minilm())
        while time.monotonic() < end:
            _work(Path(folder, str(seed)), model, seed, counts)
            seed += 1
    return Chunk(seed, dict(counts))


def _work(folder: Path, model: str, seed: int, counts: Counter[str]) -> None:
    chance = random.Random(seed)
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
    codes = []
    while (not codes or codes[-1] != 0) and len(codes) < MAX_RUNS:
        codes.append(run(config, folder / "log", SCRIPT).returncode)
    found = _aside(str(folder / "out"))
    expected = {f"x-{place}": KINDS[word] for place, word in poison.items() if KINDS[word].reason}
    apart = [name for name, kind in expected.items() if name in found and kind.fits(found[name])]
    counts["poisonous_rows"] += len(expected)
    counts.update(f"poisonous_rows.{kind.does}" for kind in expected.values())
    counts["nan_in_company_rows"] += len(poison) - len(expected)
    counts["not_isolated"] += len(expected) - len(apart) + len(found.keys() - expected.keys())
    counts["unended"] += codes[-1] != 0
    wrong = [code for code in codes if code not in MAY_END[engine]]
    counts["wrong_exits"] += len(wrong)
    met = attempts(folder / "log")
    over = sum(
        times > _most_attempts(word, rows) * list(poison.values()).count(word)
        for word, times in met.items()
        if word in DEADLY
    )
    counts["over_attempts"] += over
    verdict = oracle.check(str(folder / "out"), {n: t for n, t in texts.items() if n not in expected}, model)
    counts.update(verdict.counts)
    if over or codes[-1] or wrong or len(apart) < len(expected) or not verdict.right:
        log.error(
            "faults.poison.soak.soak(%d, 0.1): %s rows, poison %s: exit codes %s, met %s times, set aside %s, %s",
            seed, rows, poison, codes, dict(met), found, verdict,
        )  # fmt: skip


def _most_attempts(word: str, rows: int) -> float:
    """How often a text with this word may be met in a unit of so many rows."""
    most = 2 * math.log2(rows) + 2
    return max(most, 3) if DEADLY[word].does in ASKED_ONCE_MORE else most


def _aside(output: str) -> dict[str, dict[str, Any]]:
    """The rows set aside, by id; none where even that can't be read, so that it counts as not isolated."""
    try:
        return oracle.set_aside(output)
    except oracle.UNREADABLE as error:
        log.error("%s: the rows set aside can't be read: %r", output, error)
        return {}
