"""The tools themselves: an oracle that can't see a fault proves nothing."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from faults import oracle
from faults.hooks import environment
from support.jobs import make_config, text_of, write_jsonl

RUN = Path(__file__).parents[1] / "support" / "run_job.py"


def test_a_job_with_the_scripted_encoder_gives_what_the_oracle_expects(tmp_path: Path, tiny_model: str) -> None:
    write_jsonl(tmp_path / "in" / "a.jsonl", range(50))
    config = make_config(tmp_path / "in", str(tmp_path / "out"), tiny_model)
    done = subprocess.run(
        [sys.executable, str(RUN), config.model_dump_json()],
        env=environment("faults.encoder"), capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    verdict = oracle.check(str(tmp_path / "out"), {f"id-{row}": text_of(row) for row in range(50)}, tiny_model)
    assert verdict.right
    assert verdict.rows == 50


def test_the_oracle_sees_rows_that_are_lost_doubled_foreign_or_paired_wrongly(tmp_path: Path, tiny_model: str) -> None:
    texts = {name: f"text number {name}" for name in "abc"}
    rows = [(name, np.zeros(32, np.float32)) for name in "abbx"]
    verdict = oracle.judge(rows, texts, tiny_model)
    assert (verdict.lost, verdict.doubled, verdict.foreign) == (["c"], ["b"], ["x"])
    assert verdict.mispaired == ["a", "b", "b"]


def test_the_ledger_adds_up_by_version_of_the_protocol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from faults import ledger

    monkeypatch.setattr(ledger, "LEDGER", tmp_path / "ledger.json")
    assert ledger.begin("simulation") == 0
    ledger.add("simulation", ledger.Chunk(100, {"seeds": 100, "violations": 0}), 1.5)
    ledger.add("simulation", ledger.Chunk(250, {"seeds": 150, "violations": 0}), 2.0)
    assert ledger.begin("simulation") == 250
    saved = json.loads((tmp_path / "ledger.json").read_text())[ledger.protocol_version()]["simulation"]
    assert (saved["next"], saved["seconds"], saved["counts"]) == (250, 3.5, {"seeds": 250, "violations": 0})


def test_the_page_shows_what_the_ledger_says() -> None:
    """A table written by hand would be a promise, not a proof."""
    from faults import report

    assert report.table() in report.PAGE.read_text(), "run `python -m faults.report` (PYTHONPATH=tests:.)"


def test_a_chunk_comes_back_from_its_process_whole(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Counts are often a Counter, which `asdict` turns into something else."""
    from collections import Counter

    from faults import ledger, soak

    chunk = ledger.Chunk(7, Counter(points=3, lost=0))
    monkeypatch.setattr(soak, "run_part", lambda *_: chunk)
    monkeypatch.setattr(sys, "argv", ["soak", "--chunk", "sweep", "0", "1"])
    assert soak.main() == 0
    assert ledger.Chunk(**json.loads(capsys.readouterr().out.splitlines()[-1])) == chunk
