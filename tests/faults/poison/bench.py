"""Jobs with poisonous texts, in processes of their own."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

from faults.hooks import environment
from support.jobs import text_of

from pipeline.config.schema import Config

RUN = Path(__file__).parents[2] / "support" / "run_job.py"
KINDS = {
    "aardvark": ("exit", "ended with exit code 3"),
    "badger": ("segfault", "SIGSEGV"),
    "cheetah": ("kill", "memory runs out"),
    "donkey": ("hang", "no answer within 5 s"),
    "elephant": ("memory", "MemoryError"),
    "ferret": ("device", "doesn't fit into the memory"),
    "gorilla": ("raise", "the kernel failed"),
    "mammoth": ("all memory", "MemoryError"),
}
"""Word → what a text with it does, and what the reason must say."""


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
