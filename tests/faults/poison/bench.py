"""Jobs with poisonous texts, in processes of their own."""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faults.encoder import EXIT
from faults.hooks import environment
from support.jobs import text_of

from pipeline.config.schema import Config

RUN = Path(__file__).parents[2] / "support" / "run_job.py"


@dataclass(frozen=True)
class Kind:
    """What a text does to who encodes it, and what must become of its row."""

    does: str  # as `faults.encoder.suffer` knows it
    reason: str = ""  # what its reason must hold where it is set aside; "" where it must not be
    kind: str = "poison"

    def fits(self, aside: Mapping[str, Any]) -> bool:
        """Whether that is how a row was set aside."""
        return aside["kind"] == self.kind and self.reason in aside["reason"]


DEADLY = {
    "aardvark": Kind("exit", f"ended with exit code {EXIT}"),
    "badger": Kind("segfault", "SIGSEGV"),
    "cheetah": Kind("kill", "memory runs out"),
    "donkey": Kind("hang", "no answer within 5 s"),
    "elephant": Kind("memory", "MemoryError"),
    "ferret": Kind("device", "doesn't fit into the memory"),
    "gorilla": Kind("raise", "the kernel failed"),
    "mammoth": Kind("all memory", "MemoryError"),
}
"""Word → what a text with it does: nothing else of its unit can be encoded together with it."""

NAN = {
    "hyena": Kind("nan in company"),
    "iguana": Kind("nan", "the model gives NaN or infinity for this text alone", "not_finite"),
}
"""What spoils no vector but its own."""

KINDS = {**DEADLY, **NAN}
SCRIPT = {word: kind.does for word, kind in KINDS.items()}
"""For `run`: all of them."""


def write(folder: Path, poison: dict[int, str], name: str = "x", rows: int = 200) -> dict[str, str]:
    """A file with a word in some of its rows; the texts by id."""
    folder.mkdir(exist_ok=True)
    texts = {f"{name}-{row}": text_of(row) + (f" {poison[row]} again" if row in poison else "") for row in range(rows)}
    lines = [json.dumps({"id": row, "text": text}) + "\n" for row, text in texts.items()]
    (folder / f"{name}.jsonl").write_text("".join(lines))
    return texts


def run(config: Config, log: Path, poison: dict[str, str], **settings: str) -> "subprocess.CompletedProcess[str]":
    """The job, to its end or that of its process. `log` gets a line each time poison is met."""
    hooks = environment("faults.encoder", FAULTS_POISON=json.dumps(poison), FAULTS_LOG=str(log), **settings)
    command = [sys.executable, str(RUN), config.model_dump_json()]
    return subprocess.run(command, env=hooks, capture_output=True, text=True, check=False)


def attempts(log: Path) -> Counter[str]:
    """How often each word was met."""
    return Counter(line.split()[0] for line in log.read_text().splitlines()) if log.exists() else Counter()
