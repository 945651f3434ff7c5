"""The corpus as one job: every bad file in the same input as a good one, through the serial engine.

`python -m faults.corpus.job CONFIG`, in an environment with the scripted encoder, prints what came of it as JSON.
"""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from faults import oracle
from faults.corpus.case import Case, Refused, Rows
from faults.corpus.judge import FRIEND, friend_file
from faults.hooks import environment
from support.jobs import make_config
from tokenizers import Tokenizer

from pipeline.config.schema import Config

NO_MODEL = "nowhere"
"""Where verification finds no model to encode with: the vectors are scripted."""

SCRIPTED = {"norms": False, "sample vectors": None}
"""What verification must find for that reason: wrong, and not looked at."""

VERIFIED_WITH_FINDINGS = 6


def fits(case: Case) -> bool:
    """Whether the case can be one of many in a job with the default settings."""
    plain = not case.options and not case.rows and case.company and not case.by_name
    return plain and isinstance(case.right, Rows | Refused)


def problems(cases: Sequence[Case], folder: Path, model: str) -> list[str]:
    """What is wrong after a job over these files: rows, quarantined rows and refused files are held against the cases, and
    verification finds nothing."""
    places = _write(cases, folder / "in")
    config = make_config(folder / "in", str(folder / "out"), model, output__max_rejected_share=1.0, rows__empty="embed")
    done = subprocess.run(
        [sys.executable, "-m", "faults.corpus.job", config.model_dump_json()],
        env=environment("faults.encoder"), capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode != 0:
        return [f"the job ended with {done.returncode}: {done.stderr[-2000:]}"]
    found = _compare(places, json.loads(done.stdout.splitlines()[-1]), str(folder / "out"), model)
    return found + _verify(str(folder / "out"))


def _verify(output: str) -> list[str]:
    """Verification reads the same files in its own way: texts are found again in their source, and compared by their hashes."""
    command = [sys.executable, "-m", "pipeline", "verify", output, "--sample", "500", "--model", NO_MODEL, "--json"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != VERIFIED_WITH_FINDINGS:
        return [f"verify ended with {done.returncode}, though no vector is of length 1: {done.stderr[-2000:]}"]
    return list(_findings(json.loads(done.stdout)["checks"]))


def _findings(checks: Iterable[dict[str, Any]]) -> Iterator[str]:
    """What else verification found than that the vectors are scripted, and what it left out that it should have done."""
    for check in checks:
        due = SCRIPTED.get(check["name"], True)
        if check["passed"] is not due:
            yield f"verify, {check['name']}: {check['passed']} instead of {due}: {check['detail']}"


def _write(cases: Sequence[Case], folder: Path) -> dict[str, Case]:
    places: dict[str, Case] = {}
    for number, case in enumerate(cases):
        target = folder / f"{number:04}" / case.file
        target.parent.mkdir(parents=True)
        target.write_bytes(case.data())
        places[str(target)] = case
    (folder / "friend.jsonl").write_bytes(friend_file(plain=False))
    return places


def _compare(places: dict[str, Case], told: dict[str, Any], output: str, model: str) -> list[str]:
    found: list[str] = []
    refused = {uri: case for uri, case in places.items() if isinstance(case.right, Refused)}
    for uri in sorted({*refused, *told["failed"]}):
        if uri not in refused:
            found.append(f"{places[uri].name}: refused: {told['failed'][uri]}")
        elif uri not in told["failed"]:
            found.append(f"{refused[uri].name}: not refused")
    due = [(row, text) for row, text, kind in _due_rows(places) if kind is None]
    entry = oracle.newest(oracle.reader(output))
    assert entry is not None
    published = Counter((row, vector.tobytes()) for row, vector in oracle.published(oracle.reader(output), entry))
    expected = Counter(_encoded(due, model))
    found.extend(f"{row!r} is missing {count} times" for (row, _), count in (expected - published).items())
    found.extend(f"{row!r} is there {count} times too many" for (row, _), count in (published - expected).items())
    aside = Counter((uri, kind) for uri, kind in told["quarantined"])
    due_aside = Counter((uri, kind) for uri, case in places.items() for _, _, kind in _due_rows({uri: case}) if kind)
    if aside != due_aside:
        found.append(f"quarantined too many: {aside - due_aside}, too few: {due_aside - aside}")
    return found


def _due_rows(places: dict[str, Case]) -> Iterable[tuple[Any, str | None, str | None]]:
    for case in places.values():
        if isinstance(case.right, Rows):
            yield from case.right.rows


def _encoded(rows: Iterable[tuple[Any, str | None]], model: str) -> list[tuple[str, bytes]]:
    tokenizer = Tokenizer.from_file(f"{model}/tokenizer.json")
    tokenizer.no_padding()
    tokenizer.enable_truncation(128)
    rows = [*rows, *((row, text) for row, text, _ in FRIEND)]
    encodings = tokenizer.encode_batch([text for _, text in rows])
    return [
        (str(row), oracle.vector_due(encoding.ids).tobytes())
        for (row, _), encoding in zip(rows, encodings, strict=True)
    ]


def main(config: str) -> None:
    """Run the job and say what became of its files."""
    from pipeline.flow.maintenance import list_quarantine
    from pipeline.flow.supervisor import run_job

    summary = run_job(Config.model_validate(json.loads(config)))
    aside = list_quarantine(summary.output)
    quarantined = list(zip(aside["uri"].to_pylist(), aside["kind"].to_pylist(), strict=True))
    sys.stdout.write(json.dumps({"failed": summary.failed, "quarantined": quarantined}) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
